package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Gate lets machines in. Make one with NewGate. It is safe for concurrent use.
type Gate struct {
	Config
	attempts *attempts
}

// Config is what a Gate needs; all of it is required.
type Config struct {
	Store     *state.Store
	Authority *pki.Authority
	Clock     func() time.Time
	Log       *slog.Logger
}

// NewGate makes a Gate.
func NewGate(cfg Config) *Gate {
	return &Gate{Config: cfg, attempts: newAttempts()}
}

// errUnread is why a server that knows no cluster lets nobody in.
var errUnread = apierrors.NewServiceUnavailable("this server does not know its cluster yet, because the repository has not been read: its log says why")

// Join takes a machine in as the node, or the server, it says it is, if its token lets it. Errors carry the HTTP status they stand for, and
// each refusal is logged; what they say is meant for who runs the agent.
func (g *Gate) Join(ctx context.Context, req link.JoinRequest, from netip.Addr) (link.Membership, error) {
	if !g.attempts.allow(from, g.Clock()) {
		return link.Membership{}, apierrors.NewTooManyRequests("too many machines join at once: try again in a second", 1)
	}
	answer, err := g.join(ctx, req, from)
	role, name := "node", req.Node
	if req.Server != nil {
		role, name = "server", req.Server.Name
	}
	log := g.Log.With(role, name, "from", from, "token", tokenID(req.Token))
	if err == nil {
		log.Info(role + " let in")
		return answer, nil
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError {
		log.Warn(role+" refused", "err", err)
	}
	return link.Membership{}, err
}

// tokenID is what of a token may be logged.
func tokenID(text string) string {
	token, err := Parse(text)
	if err != nil || len(token.ID) != encoding.EncodedLen(idBytes) {
		return ""
	}
	return token.ID
}

func (g *Gate) join(ctx context.Context, req link.JoinRequest, from netip.Addr) (link.Membership, error) {
	token, err := Parse(req.Token)
	if err != nil {
		return link.Membership{}, refuse(http.StatusUnauthorized, err)
	}
	if req.Server != nil {
		return g.joinServer(ctx, token, req.Server)
	}
	if problems := validation.IsDNS1123Subdomain(req.Node); len(problems) > 0 {
		return link.Membership{}, refuse(http.StatusBadRequest, fmt.Errorf("%q cannot be a node's name: %s", req.Node, strings.Join(problems, "; ")))
	}
	cluster := plan.LiveCluster(g.Store.View())
	if cluster == nil {
		return link.Membership{}, errUnread
	}
	if req.Cluster != "" && req.Cluster != cluster.Name {
		return link.Membership{}, refuse(http.StatusMisdirectedRequest, fmt.Errorf("this machine is a node of cluster %s, and the token is for cluster %s: "+
			"run `mainstay agent --cleanup` there first, or leave out --token", req.Cluster, cluster.Name))
	}
	if _, err := g.vet(g.Store.View(), token, req.Node); err != nil {
		return link.Membership{}, err // before anything is signed for it
	}
	machine := NewMachine()
	certificate, err := g.certify(ctx, pki.Identity{Name: req.Node, Machine: machine}, req.Request, from)
	if err != nil {
		return link.Membership{}, err
	}
	_, err = g.Store.Update(ctx, func(tx *state.Txn) error { return g.admit(tx, token, req.Node, machine) })
	if errors.Is(err, state.ErrConflict) {
		return link.Membership{}, apierrors.NewServiceUnavailable("many machines join by this token at once: try again")
	}
	if err != nil {
		return link.Membership{}, err
	}
	return g.membership(cluster.Name, certificate), nil
}

// admit notes one more use of the token, if that is allowed. Of two machines that bring a token for one at the same time,
// the second to write finds the token changed, looks again, and is refused. A machine that had the name before has lost it.
func (g *Gate) admit(tx *state.Txn, token Token, node, machine string) error {
	stored, err := g.vet(tx, token, node)
	if err != nil {
		return err
	}
	used := stored.DeepCopy()
	used.Spec.Uses++
	tx.Update(used)
	if there, ok := state.Get[*corev1.Node](tx, state.Key{Name: node}); ok {
		taken := there.DeepCopy()
		metav1.SetMetaDataAnnotation(&taken.ObjectMeta, object.MachineAnnotation, machine)
		tx.Update(taken)
	}
	return nil
}

// vet says why a machine may not join by a token under a name; if it may, it returns what is known of the token.
func (g *Gate) vet(r state.Reader, token Token, node string) (*object.JoinToken, error) {
	stored, err := g.good(r, token, object.RoleAgent)
	if err != nil {
		return nil, err
	}
	if there, ok := state.Get[*corev1.Node](r, state.Key{Name: node}); ok && alive(there) {
		return nil, refuse(http.StatusConflict, fmt.Errorf("node %s is there and Ready: give this one another name with --node-name; "+
			"if it takes that one's place, stop that one first and wait until `mainstay get nodes` shows it NotReady", node))
	}
	return stored, nil
}

// good returns what is known of a token, if it lets a machine in as role.
func (g *Gate) good(r state.Reader, token Token, role string) (*object.JoinToken, error) {
	stored, _ := state.Get[*object.JoinToken](r, state.Key{Name: token.ID})
	err := check(token, stored, role, g.Clock())
	switch {
	case err == nil:
		return stored, nil
	case errors.Is(err, errUnknown):
		return nil, refuse(http.StatusUnauthorized, err)
	}
	return nil, refuse(http.StatusForbidden, err)
}

// alive reports whether a node has been heard of lately: what is not heard of ceases to be Ready.
func alive(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Renew signs a new certificate for a node that has one, and for the same machine; or it notes which authority's it has.
func (g *Gate) Renew(ctx context.Context, node, machine string, req link.RenewRequest, from netip.Addr) (link.Membership, error) {
	cluster := plan.LiveCluster(g.Store.View())
	if cluster == nil {
		return link.Membership{}, errUnread
	}
	if req.Keeps != "" {
		return link.Membership{}, g.settled(ctx, node, req.Keeps)
	}
	certificate, err := g.certify(ctx, pki.Identity{Name: node, Machine: machine}, req.Request, from)
	if err != nil {
		return link.Membership{}, err
	}
	g.Log.Info("node's certificate renewed", "node", node, "from", from)
	return g.membership(cluster.Name, certificate), nil
}

func (g *Gate) membership(cluster string, certificate []byte) link.Membership {
	return link.Membership{
		Cluster: cluster, Certificate: string(certificate), Authority: string(g.Authority.TrustPEM()), Servers: tables.ServerAddresses(g.Store.View()),
	}
}

// refuse gives an error the HTTP status it stands for.
func refuse(code int32, err error) error {
	reasons := map[int32]metav1.StatusReason{
		http.StatusUnauthorized: metav1.StatusReasonUnauthorized, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusBadRequest: metav1.StatusReasonBadRequest, http.StatusConflict: metav1.StatusReasonConflict,
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reasons[code], Message: err.Error()}}
}
