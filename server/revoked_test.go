package server

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
)

// What a removed server may still bring is its certificate, good for months by its dates.
func TestARemovedServersCertificateIsAcceptedNoMore(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	gone := c.servers[others[0]].self
	c.stop(t, others[0])
	at := c.servers[leader].reachable
	raft := func() error {
		_, err := ask(t, at, raftlog.RaftProtocol, "\xff", gone.ToServers())
		return err
	}
	if err := raft(); err != nil {
		t.Fatalf("before it is removed: %v", err)
	}
	if err := (Admin{DataDir: c.sites[leader].data}).RemoveServer(t.Context(), c.sites[others[0]].name); err != nil {
		t.Fatal(err)
	}
	if err := raft(); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("raft takes it in: %v", err)
	}
	if code, body := send(t.Context(), t, "POST", at+pathTransfer, `"s1"`, gone.ToServers()); code != 410 || !strings.Contains(body, "removed") {
		t.Errorf("the API answers %d: %s", code, body)
	}
}

// Three servers take over a new authority while they work, by the word of one that does not lead; what raft has made its
// connections with before is not in use any more.
func TestThreeServersRotateTheirAuthority(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	admin, former := Admin{DataDir: c.sites[others[0]].data}, c.servers[leader].authority.Pin()
	reading := readOn(t, c.sites[others[1]].kubeconfig(t))
	before := c.servers[leader].authority.Mark()
	for _, step := range []func() (AuthorityStatus, error){
		func() (AuthorityStatus, error) { return admin.RotateAuthority(t.Context()) },
		func() (AuthorityStatus, error) { return admin.FinishRotation(t.Context(), nil) },
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
		before = c.agreeOn(t, before)
		if _, failed := reading.result(); len(failed) > 0 && c.servers[leader].authority.Former() != "" {
			t.Errorf("reads by a kubeconfig from before: %v", failed)
		}
	}
	for i, s := range c.servers {
		for range 100 { // as time passes
			s.siftPeers()
		}
		if old := s.outdated(); old > 0 || s.authority.Pin() == former {
			t.Errorf("server %d has %d connections from before, its authority is %s, was %s", i, old, s.authority.Pin(), former)
		}
	}
	late := c.sites[c.leader(t)]
	c.grow(t, late, "s4")
	if s := c.servers[3]; s.authority.Mark() != c.servers[leader].authority.Mark() {
		t.Errorf("a server that joins later has another authority")
	}
}

// agreeOn waits until every server has the same authorities, other than before.
func (c *trio) agreeOn(t *testing.T, before string) (mark string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		mark = c.servers[0].authority.Mark()
		if mark != before && !slices.ContainsFunc(c.servers, func(s *server) bool { return s.authority.Mark() != mark }) {
			return mark
		}
	}
	t.Fatal("not every server has the new authority")
	return ""
}

// outdated counts raft's connections that would not be made alike now.
func (s *server) outdated() (old int) {
	s.peers.Sift(func(conn net.Conn) bool {
		secure, ok := conn.(*tls.Conn)
		if ok && len(secure.ConnectionState().VerifiedChains) > 0 && s.self.Worth(secure.ConnectionState().VerifiedChains[0], time.Now()) != pki.WorthAll {
			old++
		}
		return true
	})
	return old
}
