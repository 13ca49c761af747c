package server

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
)

// silent says that a node was given up, and with it every Pod on it.
func silent(name string) func(state.Reader) bool {
	return func(r state.Reader) bool {
		node, ok := state.Get[*corev1.Node](r, state.Key{Name: name})
		if !ok || !object.Silent(node) || len(node.Spec.Taints) != 2 {
			return false
		}
		for pod := range state.List[*corev1.Pod](r, "") {
			if _, ready := podcontrol.Ready(pod); ready && pod.Spec.NodeName == name {
				return false
			}
		}
		return true
	}
}

// unheard makes the server believe that it last heard of a node a minute ago.
func (s *server) unheard(t *testing.T, name string) {
	t.Helper()
	s.beats.Load().Seen(name, time.Now().Add(-time.Minute))
	if _, err := s.store.Update(t.Context(), func(tx *state.Txn) error { // so that it looks
		node, _ := state.Get[*corev1.Node](tx, state.Key{Name: name})
		node = node.DeepCopy()
		node.Labels["looked"] = "at"
		tx.Update(node)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A machine that nothing is heard of is given up; when its agent is back, it has its Pods, and none was touched.
func TestASilentMachineKeepsItsPods(t *testing.T) {
	s := newSite(t, map[string]string{"nodes.yaml": twoNodes})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	m := newMachine(t, "n2")
	for _, other := range []string{"n1", "n3"} {
		newMachine(t, other).agent(t, running, token)
	}
	stop := m.agent(t, running, token)
	until(t, running, "three nodes are Ready", nodesReady("n1", "n2", "n3"))
	s.commit(t, map[string]string{"web.yaml": web}) // by now there are three to spread over
	until(t, running, "3 Pods run", converged(3))
	before, calls := uids(running.store.View()), len(m.touched())
	if calls == 0 {
		t.Fatal("the machine runs nothing: the test shows nothing")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	running.unheard(t, "n2")
	until(t, running, "the node is given up", silent("n2"))
	m.agent(t, running, "")
	until(t, running, "three nodes are Ready again", nodesReady("n1", "n2", "n3"))
	until(t, running, "every Pod is Ready again", func(r state.Reader) bool {
		for pod := range state.List[*corev1.Pod](r, "") {
			if _, ready := podcontrol.Ready(pod); !ready {
				return false
			}
		}
		return !slices.ContainsFunc(slices.Collect(state.List[*corev1.Node](r, "")), func(n *corev1.Node) bool { return len(n.Spec.Taints) > 0 })
	})
	if after := uids(running.store.View()); !slices.Equal(before, after) {
		t.Errorf("Pods %q, want those of before: %q", after, before)
	}
	if again := m.touched()[calls:]; len(again) > 0 {
		t.Errorf("touched: %v", again)
	}
}
