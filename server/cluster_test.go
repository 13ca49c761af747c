package server

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/routing"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
)

// machine is a host that is to be a node: what outlives its agent's process.
type machine struct {
	name, data string
	host       *runtimetest.Fake

	told  chan struct{} // has room for one: the agent was told of nodes
	mu    sync.Mutex
	peers []int // how many nodes its agent was told of, each time; guarded by mu
}

// Apply is that of a router.
func (m *machine) Apply(_ context.Context, n *link.Network, _ link.NetworkChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peers = append(m.peers, len(n.Peers))
	select {
	case m.told <- struct{}{}:
	default:
	}
	return nil
}

// toldOf says how many nodes the agent was told of, each time that this changed.
func (m *machine) toldOf() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Compact(slices.Clone(m.peers))
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	return &machine{name: name, data: filepath.Join(t.TempDir(), name), host: runtimetest.NewFake("hello:1.0", "hello:2.0"), told: make(chan struct{}, 1)}
}

// agent runs the machine's agent against a server, as `mainstay agent` does; stop ends it and returns what it returned.
func (m *machine) agent(t *testing.T, s *server, token string) (stop func() error) {
	t.Helper()
	return m.agentLogging(t, s, token, io.Discard)
}

func (m *machine) agentLogging(t *testing.T, s *server, token string, log io.Writer) (stop func() error) {
	t.Helper()
	cfg := AgentConfig{
		Servers: []string{s.reachable}, Token: token, DataDir: m.data, NodeName: m.name, NodeIP: netip.MustParseAddr("127.0.0.1"),
		Version: "test", Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = runAgent(ctx, cfg, func(string, string) (host, error) {
			return host{runtime: m.host, routers: []routing.Router{{Name: "nodes", Apply: m.Apply}}, close: func() {}}, nil
		})
	}()
	stop = func() error {
		cancel()
		<-ended
		return err
	}
	t.Cleanup(func() { _ = stop() }) // what it returned is the test's to judge
	return stop
}

// token makes a token as `mainstay token create` does.
func (s *site) token(t *testing.T, wanted join.Wanted) string {
	t.Helper()
	if wanted.TTL == 0 {
		wanted.TTL = time.Hour
	}
	token, err := Admin{DataDir: s.data}.CreateToken(t.Context(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// nodesReady says that these nodes, and no others, are there and Ready.
func nodesReady(names ...string) func(state.Reader) bool {
	return func(r state.Reader) bool {
		var ready []string
		for n := range state.List[*corev1.Node](r, "") {
			if slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			}) {
				ready = append(ready, n.Name)
			}
		}
		return slices.Equal(ready, names)
	}
}
