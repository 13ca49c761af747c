package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// AuthorityStatus is how far a rotation of the cluster's authority is.
type AuthorityStatus struct {
	Authority string     `json:"authority"` // the first of its digest
	Expires   time.Time  `json:"expires"`
	Former    string     `json:"former,omitempty"` // as Authority; "" unless a rotation is under way
	Since     *time.Time `json:"since,omitempty"`  // of the rotation
	Servers   int        `json:"servers"`
	Nodes     int        `json:"nodes"`
	Waiting   []Waiting  `json:"waiting"` // who would be cut off if the former one were trusted no more
	Tokens    int        `json:"tokens"`  // join tokens that would be good no more then
}

// Waiting is a machine that still depends on the former authority, or may.
type Waiting struct {
	Role string `json:"role"` // object.RoleServer or object.RoleAgent
	Name string `json:"name"`
	Why  string `json:"why"`
}

// handshakeWait is how long a server may take to show its certificate.
const handshakeWait = 5 * time.Second

// authorityStatus says how far a rotation is.
func (s *server) authorityStatus(ctx context.Context) (AuthorityStatus, error) {
	if err := s.readIndex(ctx); err != nil {
		return AuthorityStatus{}, err
	}
	view := s.store.View()
	out := AuthorityStatus{
		Authority: pki.Short(s.authority.Pin()), Expires: s.authority.Expires(), Former: pki.Short(s.authority.Former()),
		Servers: state.Len[*object.Server](view), Nodes: state.Len[*corev1.Node](view), Waiting: []Waiting{},
	}
	there, ok := theAuthority(view)
	if !ok || there.Spec.Rotating == nil {
		return out, nil
	}
	out.Since = &there.Spec.Rotating.Time
	out.Waiting = slices.Concat(s.serversWaiting(ctx, view), s.nodesWaiting(view))
	for _, token := range s.gate.Tokens() {
		if token.State == join.StateGood && token.Created.Before(there.Spec.Rotating.Time) {
			out.Tokens++
		}
	}
	return out, nil
}

// nodesWaiting are the nodes that have not said that they moved. One that never joined, or is this process, need not.
func (s *server) nodesWaiting(r state.Reader) (waiting []Waiting) {
	mark := s.authority.Mark()
	for node := range state.List[*corev1.Node](r, "") {
		if node.Annotations[object.MachineAnnotation] == "" && !object.Joined(node) || node.Name == *s.ownNode.Load() || join.Settled(node, mark) {
			continue
		}
		why := "it has yet to renew its certificate: it does so by itself within a minute; an agent of an older version cannot"
		if object.NodeReady(node).Status != corev1.ConditionTrue {
			why = "it is not Ready: start its agent, which does the rest"
		}
		waiting = append(waiting, Waiting{Role: object.RoleAgent, Name: node.Name, Why: why})
	}
	return waiting
}

// serversWaiting are the servers that do not show a certificate of the new authority.
func (s *server) serversWaiting(ctx context.Context, r state.Reader) []Waiting {
	var mu sync.Mutex
	var asked sync.WaitGroup
	var waiting []Waiting
	for server := range state.List[*object.Server](r, "") {
		if server.Name == s.id || server.Spec.Pending {
			continue
		}
		asked.Go(func() {
			if why := s.unmoved(ctx, server.Spec.Address); why != "" {
				mu.Lock()
				defer mu.Unlock()
				waiting = append(waiting, Waiting{Role: object.RoleServer, Name: server.Name, Why: why})
			}
		})
	}
	asked.Wait()
	slices.SortFunc(waiting, func(a, b Waiting) int { return cmp.Compare(a.Name, b.Name) })
	return waiting
}

// unmoved says why a server cannot be known to have the new authority; "" if it has.
func (s *server) unmoved(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	conn, err := (&tls.Dialer{Config: s.self.ToServers()}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "it does not answer at " + address + ": start it, or remove it from the cluster"
	}
	defer func(conn net.Conn) { _ = conn.Close() }(conn)
	if !s.authority.Signed(conn.(*tls.Conn).ConnectionState().PeerCertificates[0]) {
		return "it has yet to take over the new authority"
	}
	return ""
}
