package server

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/node/link/linktest"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// cable is what agents' connections go through. It can be cut: all connections end, and none begins until it is mended.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn // guarded by mu
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

// fleet runs n agents without engines against a server, all at once.
func fleet(t *testing.T, s *server, n int, through *cable) []*linktest.Agent {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	agents := make([]*linktest.Agent, n)
	for i := range agents {
		name := fmt.Sprintf("n%03d", i)
		identity := s.authority.Renewing(pki.Identity{Name: name, Machine: name, Group: pki.GroupNodes, Hosts: []string{pki.NodeHost(name)}})
		transport := &http.Transport{TLSClientConfig: identity.ToServers(), ForceAttemptHTTP2: true, DialContext: through.dial}
		agents[i] = &linktest.Agent{
			Name: name, Cluster: plan.LiveCluster(s.store.View()).Name, Server: "https://" + s.reachable,
			Client: &http.Client{Transport: transport}, Address: linktest.Address(i), Start: 10 * time.Millisecond,
		}
		all.Go(func() { agents[i].Run(ctx); transport.CloseIdleConnections() })
	}
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	return agents
}

// turns counts by uid how often each Pod became Ready, and names those that ceased to be, as a follower of the store sees it.
type turns struct {
	mu    sync.Mutex
	ready map[types.UID]int
	lost  []string
}

func followTurns(t *testing.T, s *server) *turns {
	seen := &turns{ready: map[types.UID]int{}}
	feed := state.Changes[*corev1.Pod](s.store, s.store.View().Version)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		buf := make([]state.Change[*corev1.Pod], 64)
		for {
			n, err := feed.Next(ctx, buf)
			if err != nil {
				done <- err
				return
			}
			seen.take(buf[:n])
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("changes were missed: %v", err)
		}
	})
	return seen
}

func (s *turns) take(changes []state.Change[*corev1.Pod]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		was, is := c.Old != nil && isReady(c.Old), c.New != nil && isReady(c.New)
		if is && !was {
			s.ready[c.New.UID]++
		} else if was && c.New != nil && !is {
			s.lost = append(s.lost, c.New.Name)
		}
	}
}

func isReady(pod *corev1.Pod) bool {
	_, ready := podcontrol.Ready(pod)
	return ready
}

// once fails the test unless n Pods became Ready, each of them once for all.
func (s *turns) once(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.ready, func(_ types.UID, times int) bool { n--; return times == 1 })
	if n != 0 || len(s.ready) > 0 || len(s.lost) > 0 {
		t.Errorf("%d Pods too few became Ready, these more than once: %v; these ceased to be: %v", n, s.ready, s.lost)
	}
}

const fleetNodes = 50

// large is web with n replicas, on nodes of which there are many.
func large(n int) string {
	return strings.Replace(web, "replicas: 3", fmt.Sprintf("replicas: %d", n), 1)
}

// newFleet is a site with a fleet that has joined, on which nothing runs yet.
func newFleet(t *testing.T, through *cable) (*site, *server, []*linktest.Agent) {
	t.Helper()
	s := newSite(t, map[string]string{"nothing.yaml": "# nothing yet\n"})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	agents := fleet(t, running, fleetNodes, through)
	until(t, running, "every node is there", func(r state.Reader) bool { return state.Len[*corev1.Node](r) == fleetNodes })
	return s, running, agents
}

func TestFiftyAgentsReportEachPodReadyOnce(t *testing.T) {
	s, running, _ := newFleet(t, &cable{})
	seen := followTurns(t, running)
	s.commit(t, map[string]string{"web.yaml": large(500)})
	until(t, running, "500 Pods run", converged(500))
	seen.once(t, 500)
}

// All of them register within the same moment.
func TestNoTwoNodesShareARange(t *testing.T) {
	_, running, _ := newFleet(t, &cable{})
	owner := map[string]string{}
	for node := range state.List[*corev1.Node](running.store.View(), "") {
		if other, taken := owner[node.Spec.PodCIDR]; taken {
			t.Errorf("nodes %s and %s have one range, %s", other, node.Name, node.Spec.PodCIDR)
		}
		owner[node.Spec.PodCIDR] = node.Name
	}
}

// What is wanted and what becomes of it while no agent reaches the server is made up for once they do.
func TestAgentsThatWereCutOffMissNothing(t *testing.T) {
	var line cable
	s, running, agents := newFleet(t, &line)
	s.commit(t, map[string]string{"web.yaml": large(500)})
	until(t, running, "500 Pods run", converged(500))
	line.pull()
	changed := 0
	for _, a := range agents {
		if ready := a.ReadyPods(); len(ready) > 0 {
			a.SetNotReady(ready[0], "while cut off")
			changed++
		}
	}
	s.commit(t, map[string]string{"web.yaml": large(700)})
	until(t, running, "200 more are bound", func(r state.Reader) bool { return bound(r) == 700 })
	if changed == 0 || told(running.store.View()) != 0 {
		t.Fatalf("of %d changes %d came through a cable that is cut", changed, told(running.store.View()))
	}
	line.mend()
	until(t, running, "all but those that changed are Ready", func(r state.Reader) bool { return readyCount(r) == 700-changed && told(r) == changed })
}

func bound(r state.Reader) (n int) {
	for pod := range state.List[*corev1.Pod](r, "") {
		if pod.Spec.NodeName != "" {
			n++
		}
	}
	return n
}

func readyCount(r state.Reader) (n int) {
	for pod := range state.List[*corev1.Pod](r, "") {
		if isReady(pod) {
			n++
		}
	}
	return n
}

// told counts the Pods of which was reported what happened while the line was cut.
func told(r state.Reader) (n int) {
	for pod := range state.List[*corev1.Pod](r, "") {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Message == "while cut off" {
				n++
			}
		}
	}
	return n
}
