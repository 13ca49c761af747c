package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

const twoNodes = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: n2}\n"

// touched lists the containers that a machine was told to start or stop.
func (m *machine) touched() []runtimetest.Call {
	return slices.DeleteFunc(m.host.Calls(), func(c runtimetest.Call) bool { return c.Method != "StartContainer" && c.Method != "StopContainer" })
}

func awaits(node string) func(state.Reader) bool {
	return func(r state.Reader) bool {
		cluster := plan.LiveCluster(r)
		if cluster == nil {
			return false
		}
		c := apimeta.FindStatusCondition(cluster.Status.Conditions, object.Recovering)
		return c != nil && c.Status == "True" && strings.HasSuffix(c.Message, ": "+node)
	}
}

// untilTold waits until a machine's agent was told of so many nodes.
func untilTold(t *testing.T, m *machine, nodes int) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !slices.Contains(m.toldOf(), nodes) {
		select {
		case <-m.told:
		case <-deadline:
			t.Fatalf("the agent was told of %d nodes in turn, want %d", m.toldOf(), nodes)
		}
	}
}

// A server that has lost its store starts and stops nothing before the nodes that Git declares have said what they run.
func TestARebuiltServerWaitsForDeclaredNodes(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web, "nodes.yaml": twoNodes})
	running, stop := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	machines := []*machine{newMachine(t, "n1"), newMachine(t, "n2")}
	var stops []func() error
	for _, m := range machines {
		stops = append(stops, m.agent(t, running, token))
	}
	until(t, running, "two nodes are Ready", nodesReady("n1", "n2"))
	until(t, running, "3 Pods run", converged(3))
	before := uids(running.store.View())
	untilTold(t, machines[0], 2)
	s.rebuild(t, append(stops, stop)...)
	calls := []int{len(machines[0].touched()), len(machines[1].touched())}

	running, _ = s.control(t)
	machines[0].agent(t, running, "")
	until(t, running, "the second node is waited for", awaits("n2"))
	if n := state.Len[*corev1.Pod](running.store.View()); n == 0 || n == 3 {
		t.Errorf("%d Pods are known, want those of the first node: the test shows nothing", n)
	}
	machines[1].agent(t, running, "")
	until(t, running, "the same 3 Pods run", converged(3))
	if after := uids(running.store.View()); !slices.Equal(before, after) {
		t.Errorf("Pods %q, want those of before: %q", after, before)
	}
	told := machines[0].toldOf()
	if at := slices.Index(told, 2); slices.ContainsFunc(told[at:], func(nodes int) bool { return nodes != 2 }) {
		t.Errorf("the first machine was told of %d nodes in turn, want 2 for good: it lost its routes", told)
	}
	for i, m := range machines {
		if calls := m.touched()[calls[i]:]; len(calls) > 0 {
			t.Errorf("%s: %v", m.name, calls)
		}
	}
}

// rebuild ends a server and its agents and takes its store away.
func (s *site) rebuild(t *testing.T, stops ...func() error) {
	t.Helper()
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(s.data, "raft")); err != nil {
		t.Fatal(err)
	}
}

// The first node that a server without its store hears from says nothing about the others, least of all when it is idle; nor
// does a server that is started once more meanwhile forget what it waits for (P5, P6).
func TestARebuiltServerWaitsForUndeclaredNodes(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	busy, idle := newMachine(t, "busy"), newMachine(t, "idle")
	stopBusy := busy.agent(t, running, token)
	until(t, running, "3 Pods run", converged(3))
	before := uids(running.store.View())
	stopIdle := idle.agent(t, running, token)
	until(t, running, "both nodes are Ready", nodesReady("busy", "idle"))
	ranges := podRanges(running)
	idle.untilRangeKept(t)
	s.rebuild(t, stopBusy, stopIdle, stop)
	calls := len(busy.touched())

	s.quiet = time.Hour // nothing may be decided before the test says so
	running, stop = s.control(t)
	stopIdle = idle.agent(t, running, "")
	until(t, running, "others are waited for", awaitsOthers)
	if n := state.Len[*corev1.Pod](running.store.View()); n != 0 {
		t.Errorf("%d Pods were made before the node that has them came", n)
	}
	for _, stop := range []func() error{stopIdle, stop} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	running, stop = s.control(t)
	stopBusy = busy.agent(t, running, "")
	until(t, running, "its Pods are taken in", func(r state.Reader) bool { return state.Len[*corev1.Pod](r) == 3 && awaitsOthers(r) })
	for _, stop := range []func() error{stopBusy, stop} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	s.quiet = 10 * time.Millisecond
	running, _ = s.control(t)
	busy.agent(t, running, "")
	until(t, running, "the same 3 Pods run", converged(3))
	if after := uids(running.store.View()); !slices.Equal(before, after) {
		t.Errorf("Pods %q, want those of before: %q", after, before)
	}
	idle.agent(t, running, "")
	until(t, running, "both nodes are Ready again", nodesReady("busy", "idle"))
	if diff := cmp.Diff(ranges, podRanges(running)); diff != "" {
		t.Errorf("nodes have other ranges (-before +after):\n%s", diff)
	}
	if calls := slices.Concat(busy.touched()[calls:], idle.touched()); len(calls) > 0 {
		t.Errorf("these calls were made: %v", calls)
	}
}

// untilRangeKept waits until an agent has written down which range is its node's: killed before, it is new to a rebuilt server.
func (m *machine) untilRangeKept(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		if _, err := os.Stat(filepath.Join(m.data, "node", "network.json")); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// podRanges are what nodes have for their Pods.
func podRanges(s *server) map[string]string {
	ranges := map[string]string{}
	for node := range state.List[*corev1.Node](s.store.View(), "") {
		ranges[node.Name] = node.Spec.PodCIDR
	}
	return ranges
}

func awaitsOthers(r state.Reader) bool {
	cluster := plan.LiveCluster(r)
	if cluster == nil {
		return false
	}
	c := apimeta.FindStatusCondition(cluster.Status.Conditions, object.Recovering)
	return c != nil && c.Status == "True" && strings.HasPrefix(c.Message, "waiting until no further node has come")
}

// gathering is a server that has a store alone, and what its gather returns.
func gathering(t *testing.T, objects ...object.Object) (s *server, done chan error) {
	s = &server{store: statetest.New(t, objects...), log: slog.New(slog.DiscardHandler), quiet: quietTime}
	done = make(chan error, 1)
	go func() { done <- s.gather(t.Context()) }()
	synctest.Wait()
	return s, done
}

func recoveringCluster() *object.Cluster {
	cluster := &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}
	cluster.Status.Conditions = []metav1.Condition{awaitingNodes("nodes may have joined before")}
	return cluster
}

func joinedNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24"}}
}

// Each node that comes starts the quiet time anew.
func TestGatherEndsOnceNoNodeHasComeForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := gathering(t, recoveringCluster(), joinedNode("n1"))
		for _, name := range []string{"n2", "n3"} {
			time.Sleep(quietTime - time.Second)
			statetest.Put(t, s.store, joinedNode(name))
		}
		last := time.Now()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(last); waited != quietTime {
			t.Errorf("it ended %v after the last node came, want %v", waited, quietTime)
		}
	})
}

// Nodes that Git declares are waited for first; that all of them came says nothing about those that it does not declare.
func TestGatherWaitsForDeclaredNodesAndThenForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		declared := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
		s, done := gathering(t, recoveringCluster(), joinedNode("n1"), declared)
		if !awaits("n2")(s.store.View()) {
			t.Error("n2 is not waited for")
		}
		start := time.Now()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != patience+quietTime {
			t.Errorf("it ended after %v, want %v", waited, patience+quietTime)
		}
	})
}

// A cluster that is new has no Pods anywhere: nobody is waited for, declared or not.
func TestGatherDoesNotDelayANewCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		declared := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
		_, done := gathering(t, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}, joinedNode("n1"), declared)
		start := time.Now()
		if err := <-done; err != nil || time.Since(start) > 0 {
			t.Errorf("it ended after %v with %v, want at once", time.Since(start), err)
		}
	})
}
