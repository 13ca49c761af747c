package chaos

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/e2e/chaos/history"
	"github.com/mainstay-cluster/mainstay/testhost"
)

const (
	port = ":7443"
	// patience bounds every wait for a cluster that nobody hurts; it is far above what a loaded machine needs.
	patience = 2 * time.Minute
	// lookAgain is how often is asked for what nobody tells.
	lookAgain = 50 * time.Millisecond
	// asking bounds the question who leads: some servers do not answer because of what was done to them.
	asking = 500 * time.Millisecond
)

// cluster is servers on hosts of their own, nodes that are nothing but their side of the protocol, and a repository.
type cluster struct {
	t       testing.TB
	dir     string // of logs and of what is reported
	repo    *repository
	servers []*server
	nodes   *nodes
	began   time.Time

	credentials *tls.Config
	asker       *client // for what is not part of the history

	mu      sync.Mutex
	taken   map[*server]bool // by lanes; guarded by mu
	done    []string         // a line for each fault; guarded by mu
	counts  map[Kind]int     // guarded by mu
	history history.History  // guarded by mu
}

// newCluster returns once n servers know the first commit.
func newCluster(t testing.TB, n int, bin, dir string, seed uint64) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: dir, began: time.Now(), taken: map[*server]bool{}, counts: map[Kind]int{}}
	network := testhost.NewNetwork(t)
	for i := range n {
		c.servers = append(c.servers, c.newServer(network.BareHost(t), fmt.Sprintf("s%d", i+1), bin))
	}
	t.Cleanup(c.end)
	c.history.Pushes = []history.Push{{Parts: fewParts}}
	c.repo = newRepository(t, filepath.Join(c.servers[0].host.Dir, "repo"), seed)
	first := c.servers[0]
	c.must(first.start())
	c.eventually("the first server answers", func() error { return first.answersAdmin() })
	var err error
	c.credentials, err = readCredentials(first)
	c.must(err)
	c.asker = c.newClient("asker")
	c.nodes, err = c.newNodes()
	c.must(err)
	for _, s := range c.servers[1:] {
		token, err := first.command(t.Context(), "token", "create", "--role", "server", "--once", "--data-dir", first.data)
		c.must(err)
		s.args = append(s.args, "--join", first.address, "--token", token)
		c.must(s.start())
	}
	for _, s := range c.servers {
		c.eventually("server "+s.name+" shows the first commit", func() error { return c.shows(s, 0) })
	}
	return c
}

func (c *cluster) newServer(host *testhost.Host, name, bin string) *server {
	s := &server{name: name, host: host, bin: bin, address: host.IP.String() + port, log: filepath.Join(c.dir, name+".log"), orders: filepath.Join(c.dir, name+".orders")}
	c.must(s.mount())
	repo := filepath.Join(filepath.Dir(host.Dir), "1", "repo")
	s.args = []string{"server", "--name", name, "--repo", repo, "--data-dir", s.data, "--listen", s.address, "--advertise", s.address}
	return s
}

// end ends the servers, also the frozen ones.
func (c *cluster) end() {
	for _, s := range c.servers {
		c.check(s.send(syscall.SIGCONT))
		c.check(s.end(syscall.SIGKILL))
	}
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Error(err)
	}
}

// now is the time of the record.
func (c *cluster) now() time.Duration { return time.Since(c.began) }

// eventually waits until check passes.
func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	c.must(wait(soon(), what, check))
}

// soon is when patience ends.
func soon() time.Time { return time.Now().Add(patience) }

// wait tries until check passes. It asks processes, which do not tell when to look again.
func wait(deadline time.Time, what string, check func() error) error {
	for ; ; time.Sleep(lookAgain) {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not in time: %w", what, err)
		}
	}
}

// note keeps a line about a fault for the report.
func (c *cluster) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, fmt.Sprintf(format, args...))
}

func (c *cluster) count(kind Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[kind]++
}

// take finds whom a fault is for, so that no other lane hurts them meanwhile; the leader is nil while nobody knows it. There is
// none if another lane has them all, or if it is for all and another lane has one of them.
func (c *cluster) take(leader *server, f Fault) []*server {
	c.mu.Lock()
	defer c.mu.Unlock()
	free := slices.DeleteFunc(slices.Clone(c.servers), func(s *server) bool { return c.taken[s] })
	if len(free) == 0 || f.Kind == Crash && len(free) < len(c.servers) {
		return nil
	}
	victims := free
	if f.Kind != Crash {
		victims = []*server{choose(free, leader, f)}
	}
	for _, s := range victims {
		c.taken[s] = true
	}
	return victims
}

// choose is a server that a fault is for, of at least one.
func choose(from []*server, leader *server, f Fault) *server {
	leads := slices.Index(from, leader)
	if f.Whom == Leader && leads >= 0 {
		return leader
	}
	if f.Whom == Follower && leads >= 0 && len(from) > 1 {
		from = slices.Delete(slices.Clone(from), leads, leads+1)
	}
	return from[rand.New(rand.NewPCG(f.Dice, 1)).IntN(len(from))]
}

func (c *cluster) giveBack(victims []*server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range victims {
		delete(c.taken, s)
	}
}

// leader is the server that says that it leads, in the newest term; nil if nobody does.
func (c *cluster) leader(ctx context.Context) *server {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	terms := make([]float64, len(c.servers))
	var all sync.WaitGroup
	for i, s := range c.servers {
		all.Go(func() {
			if m, err := c.metrics(ctx, s); err == nil && m["mainstay_raft_leader"] == 1 {
				terms[i] = m["mainstay_raft_term"]
			}
		})
	}
	all.Wait()
	newest := slices.Max(terms)
	if newest == 0 {
		return nil
	}
	return c.servers[slices.Index(terms, newest)]
}

// metrics are those of a server that have no labels.
func (c *cluster) metrics(ctx context.Context, s *server) (map[string]float64, error) {
	body, err := c.asker.open(ctx, s, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return parseMetrics(body)
}

func parseMetrics(from io.Reader) (map[string]float64, error) {
	found := map[string]float64{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			found[name] = number
		}
	}
	return found, lines.Err()
}

// answersAdmin is an error until there is what administers the server and what clients read it with.
func (s *server) answersAdmin() error {
	if _, err := os.Stat(filepath.Join(s.data, "kubeconfig")); err != nil {
		return fmt.Errorf("server %s is not up: %w", s.name, err)
	}
	_, err := s.command(context.Background(), "token", "list", "--data-dir", s.data)
	return err
}
