package server

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
)

// patient is what a busy machine does not exhaust: leaders stay unless a test ends them.
const patient = time.Second

// trio is a cluster of three servers in this process, over TCP on loopback.
type trio struct {
	sites    []*site
	servers  []*server // as they run now
	stops    []func() error
	network  *network
	patience time.Duration
}

// newTrio starts a server, has two more join it, and waits until all three are members.
func newTrio(t *testing.T, files map[string]string) *trio {
	t.Helper()
	return newTrioOf(t, files, patient)
}

func newTrioOf(t *testing.T, files map[string]string, patience time.Duration) *trio {
	t.Helper()
	c := &trio{patience: patience, network: &network{cut: map[string]bool{}, conns: map[net.Conn][2]string{}}}
	first := newSite(t, files)
	for _, name := range []string{"s1", "s2", "s3"} {
		c.grow(t, first, name)
	}
	return c
}

// grow starts one more server, and waits until it is a member.
func (c *trio) grow(t *testing.T, first *site, name string) {
	t.Helper()
	at := freeAddress(t)
	s := &site{repo: first.repo, data: filepath.Join(t.TempDir(), name), host: first.host, name: name, at: at, wires: wires{patience: c.patience, dial: c.network.from(at)}}
	if len(c.servers) > 0 {
		s.secret = c.sites[c.leader(t)].token(t, join.Wanted{Role: object.RoleServer})
		for _, other := range c.sites {
			s.join = append(s.join, other.at)
		}
	}
	i := len(c.servers)
	c.sites, c.servers, c.stops = append(c.sites, s), append(c.servers, nil), append(c.stops, nil)
	c.start(t, i)
	until(t, c.servers[i], name+" is a member of a cluster that is known", func(r state.Reader) bool {
		self, ok := state.Get[*object.Server](r, state.Key{Name: name})
		return ok && !self.Spec.Pending && plan.LiveCluster(r) != nil
	})
}

// freeAddress is where nobody listens: a server that is started again has the address it had.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start runs one of the servers, for the first time or again.
func (c *trio) start(t *testing.T, i int) {
	t.Helper()
	c.servers[i], c.stops[i] = c.sites[i].control(t)
}

// stop ends one of the servers as a signal would.
func (c *trio) stop(t *testing.T, i int) {
	t.Helper()
	if err := c.stops[i](); err != nil {
		t.Errorf("server %s ended with %v", c.sites[i].name, err)
	}
}

// leader waits until one of the servers takes writes, and says which. Those that are stopped or cut off are left out.
func (c *trio) leader(t *testing.T, without ...int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	leads := make(chan int, len(c.servers))
	for i, s := range c.servers {
		if slices.Contains(without, i) {
			continue
		}
		go func() {
			if s.store.Leading(ctx) == nil {
				leads <- i
			}
		}()
	}
	select {
	case i := <-leads:
		return i
	case <-ctx.Done():
		t.Fatal("no server leads")
		return 0
	}
}

// followers are the servers that do not lead.
func (c *trio) followers(t *testing.T) (leader int, others []int) {
	t.Helper()
	leader = c.leader(t)
	for i := range c.servers {
		if i != leader {
			others = append(others, i)
		}
	}
	return leader, others
}

// network is what the servers reach each other by. It can be cut around some of them.
type network struct {
	mu    sync.Mutex
	cut   map[string]bool        // addresses that reach nobody and that nobody reaches; guarded by mu
	conns map[net.Conn][2]string // from where to where; guarded by mu
}

var errCut = errors.New("the network is cut")

// from is how the server at an address reaches the others.
func (n *network) from(at string) dialFunc {
	return func(ctx context.Context, proto, to string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, proto, to)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.cut[at] || n.cut[to] {
			conn.Close()
			return nil, errCut
		}
		n.conns[conn] = [2]string{at, to}
		return conn, nil
	}
}

// isolate cuts one of the servers off from the others; clients still reach it.
func (c *trio) isolate(i int) {
	at, n := c.sites[i].at, c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[at] = true
	for conn, ends := range n.conns {
		if slices.Contains(ends[:], at) {
			conn.Close()
			delete(n.conns, conn)
		}
	}
}

// heal mends all that was cut.
func (c *trio) heal() {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	clear(c.network.cut)
}

func TestAnotherServerLeadsWhenOneStops(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	old := c.leader(t)
	c.stop(t, old)
	next := c.leader(t, old)
	until(t, c.servers[next], "it has recorded where it is reached", func(r state.Reader) bool {
		self, ok := state.Get[*object.Server](r, state.Key{Name: c.servers[next].id})
		return ok && self.Spec.Address == c.sites[next].at
	})
	c.start(t, old)
	until(t, c.servers[old], "who was away is known still", func(r state.Reader) bool { return state.Len[*object.Server](r) == 3 })
}

func TestALeaderThatIsCutOffIsReplaced(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	old, others := c.followers(t)
	c.isolate(old)
	next := c.leader(t, old)
	if !slices.Contains(others, next) {
		t.Fatalf("%d leads still", next)
	}
	c.heal()
	until(t, c.servers[old], "who was cut off hears who leads", func(r state.Reader) bool {
		_, ok := state.Get[*object.Server](r, state.Key{Name: c.servers[next].id})
		return ok
	})
}
