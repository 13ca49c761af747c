package nodelife

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// joined is a node as its agent registers it.
func joined(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24"},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse},
			{Type: object.PullCondition, Status: corev1.ConditionTrue},
		}},
	}
}

func readyPod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// term runs the controllers as a leader does, in virtual time, with nodes that say they live every 10 s while alive is true.
type term struct {
	t     *testing.T
	store *state.Store
	beats *Heartbeats
	alive map[string]bool
	end   func()
}

var errEnd = errors.New("the term is over")

func begin(t *testing.T, store *state.Store, nodes ...string) *term {
	m := &term{t: t, store: store, beats: NewHeartbeats(time.Now()), alive: map[string]bool{}}
	for _, n := range nodes {
		m.alive[n] = true
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 2)
	metrics := engine.NewMetrics(prometheus.NewRegistry())
	for _, c := range Controllers(m.beats) {
		go func() { ended <- c.Run(ctx, store, slog.New(slog.DiscardHandler), metrics) }()
	}
	m.end = func() {
		cancel(errEnd)
		for range 2 {
			<-ended
		}
	}
	m.pass(0)
	return m
}

// pass lets time pass, in which the living say so.
func (m *term) pass(d time.Duration) {
	for end := time.Now().Add(d); ; {
		for n, alive := range m.alive {
			if alive {
				m.beats.Seen(n, time.Now())
			}
		}
		if !time.Now().Before(end) {
			break
		}
		time.Sleep(min(10*time.Second, time.Until(end)))
	}
	synctest.Wait()
}

// register is what an agent does when it comes back.
func (m *term) register(name string) {
	m.alive[name] = true
	m.beats.Seen(name, time.Now())
	statetest.Update(m.t, m.store, func(tx *state.Txn) {
		node, _ := state.Get[*corev1.Node](tx, state.Key{Name: name})
		back := node.DeepCopy()
		back.Status = joined(name).Status
		tx.SetStatus(back)
	})
	synctest.Wait()
}

func (m *term) node(name string) *corev1.Node {
	node, ok := state.Get[*corev1.Node](m.store.View(), state.Key{Name: name})
	if !ok {
		m.t.Fatalf("no node %s", name)
	}
	return node
}

func (m *term) pods() int { return state.Len[*corev1.Pod](m.store.View()) }

// taintKeys is what a node is tainted with.
func taintKeys(node *corev1.Node) (keys []string) {
	for i := range node.Spec.Taints {
		keys = append(keys, node.Spec.Taints[i].Key+":"+string(node.Spec.Taints[i].Effect))
	}
	return keys
}

func named(n int) (names []string, nodes []object.Object) {
	for i := range n {
		names = append(names, fmt.Sprintf("n%04d", i))
		nodes = append(nodes, joined(names[i]))
	}
	return names, nodes
}

func home() *object.Cluster { return &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}} }

func TestASilentNodeIsNotReadyAfterTwentySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(3)
		m := begin(t, statetest.New(t, append(nodes, readyPod("p", names[0]))...), names...)
		defer m.end()
		m.pass(time.Hour)
		if len(m.node(names[0]).Spec.Taints) != 0 {
			t.Fatalf("a living node has %v", m.node(names[0]).Spec.Taints)
		}
		version := m.store.View().Version
		m.alive[names[0]] = false
		m.pass(19 * time.Second)
		if m.store.View().Version != version {
			t.Error("something was written within the time to live")
		}
		m.pass(2 * time.Second)
		node := m.node(names[0])
		if got := fmt.Sprint(taintKeys(node)); got != "[node.kubernetes.io/unreachable:NoSchedule node.kubernetes.io/unreachable:NoExecute]" {
			t.Errorf("taints %s", got)
		}
		if !object.Silent(node) || node.Status.Conditions[1].Status != corev1.ConditionUnknown || node.Status.Conditions[2].Status != corev1.ConditionTrue {
			t.Errorf("conditions %+v", node.Status.Conditions)
		}
		pod, _ := state.Get[*corev1.Pod](m.store.View(), state.Key{Namespace: "default", Name: "p"})
		if c := pod.Status.Conditions[0]; c.Status != corev1.ConditionFalse || c.Reason != "NodeNotReady" {
			t.Errorf("its Pod is %+v", c)
		}
		m.register(names[0])
		if got := taintKeys(m.node(names[0])); len(got) != 0 {
			t.Errorf("back, and still %v", got)
		}
	})
}

// Nodes that Git declares and that never came, or long gone ones without Pods, do not make one node's silence look like the
// server's fault.
// What runs on a node under pressure stays; nothing new comes, until the agent says that it is over. A taint that Git gave stays.
func TestANodeUnderPressureTakesNoNewPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(3)
		own := corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}
		nodes[0].(*corev1.Node).Spec.Taints = []corev1.Taint{own}
		m := begin(t, statetest.New(t, append(nodes, readyPod("p", names[0]))...), names...)
		defer m.end()
		say := func(status corev1.ConditionStatus) []corev1.Taint {
			statetest.Update(t, m.store, func(tx *state.Txn) {
				changed := m.node(names[0]).DeepCopy()
				changed.Status.Conditions[1].Status = status
				tx.SetStatus(changed)
			})
			m.pass(time.Minute)
			return m.node(names[0]).Spec.Taints
		}
		want := []corev1.Taint{own, {Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}}
		if diff := cmp.Diff(want, say(corev1.ConditionTrue)); diff != "" {
			t.Errorf("under pressure (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[:1], say(corev1.ConditionFalse)); diff != "" {
			t.Errorf("after it (-want +got):\n%s", diff)
		}
		if _, ok := state.Get[*corev1.Pod](m.store.View(), state.Key{Namespace: "default", Name: "p"}); !ok {
			t.Error("its Pod has left")
		}
	})
}

func TestAbsentNodesKeepNoDeadOnesPodsInService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(5)
		for _, name := range []string{"x1", "x2", "x3", "x4"} {
			nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		m := begin(t, statetest.New(t, append(nodes, home(), readyPod("p", names[0]))...), names[0], names[1], names[2])
		defer m.end()
		m.pass(time.Hour)
		m.alive[names[0]] = false
		m.pass(timeToLive + 5*time.Second)
		pod, _ := state.Get[*corev1.Pod](m.store.View(), state.Key{Namespace: "default", Name: "p"})
		if c := pod.Status.Conditions[0]; c.Status != corev1.ConditionFalse {
			t.Errorf("the dead node's Pod is %+v", c)
		}
	})
}

func TestPodsLeaveASilentNodeWhenTheirTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(3)
		brief, patient := readyPod("brief", names[0]), readyPod("patient", names[0])
		seconds := int64(30)
		brief.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds}}
		patient.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		dying := readyPod("dying", names[0])
		now := metav1.Now()
		dying.DeletionTimestamp = &now
		m := begin(t, statetest.New(t, append(nodes, home(), readyPod("plain", names[0]), readyPod("other", names[1]), brief, patient, dying)...), names...)
		defer m.end()
		m.pass(time.Minute)
		m.alive[names[0]] = false
		for _, step := range []struct {
			after time.Duration
			left  int
		}{{49 * time.Second, 5}, {3 * time.Second, 4}, {266 * time.Second, 4}, {4 * time.Second, 2}, {23 * time.Hour, 2}} {
			if m.pass(step.after); m.pods() != step.left {
				t.Errorf("%d Pods, want %d", m.pods(), step.left)
			}
		}
	})
}

func TestANewTermGrantsEveryNodeItsFullTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(3)
		store := statetest.New(t, append(nodes, readyPod("p", names[0]))...)
		m := begin(t, store, names...)
		m.alive[names[0]] = false
		m.pass(time.Minute)
		m.end()
		time.Sleep(time.Hour) // no server; the Pod's time is long over
		m = begin(t, store, names[1:]...)
		defer m.end()
		m.pass(19 * time.Second)
		if m.pods() != 1 {
			t.Error("evicted before the node could be heard")
		}
		for _, n := range names[1:] {
			if object.Silent(m.node(n)) {
				t.Errorf("%s is given up without having had its time", n)
			}
		}
		m.pass(2 * time.Second)
		if m.pods() != 0 {
			t.Error("the node stays silent, and its Pod is there")
		}
	})
}

func TestAForgottenNodeLeavesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(4)
		patient := readyPod("p", names[1])
		patient.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		source := &object.Source{ObjectMeta: metav1.ObjectMeta{Name: "nodes." + names[2]}}
		m := begin(t, statetest.New(t, append(nodes, home(), patient, source)...), names...)
		defer m.end()
		for _, n := range names[:3] {
			m.alive[n] = false
		}
		m.pass(24*time.Hour - time.Minute)
		if n := state.Len[*corev1.Node](m.store.View()); n != 4 {
			t.Fatalf("%d nodes before their time is over", n)
		}
		m.pass(5 * time.Minute)
		if _, there := state.Get[*corev1.Node](m.store.View(), state.Key{Name: names[0]}); there {
			t.Error("an empty node that nobody declares is still there")
		}
		for _, n := range names[1:] {
			m.node(n)
		}
	})
}
