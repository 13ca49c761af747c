package server

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/controllers/nodelife"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/sched"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	mortalNodes, mortalReplicas = 5, 7
	mortalEviction              = 30 * time.Second
)

// mortal is a cluster in virtual time, of which nodes die and return: the controllers and the scheduler are real, agents are
// what they tell servers.
type mortal struct {
	t     *testing.T
	store *state.Store
	beats *nodelife.Heartbeats
	names []string
	dead  map[string]bool
	runs  map[string]map[types.UID]bool // by node
	calm  map[types.UID]string          // Ready Pods by names, whose nodes have not died since they are
}

func mortalNode(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Spec.PodCIDR = "10.244.0.0/24"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return n
}

func mortalObjects() []object.Object {
	labels, replicas := map[string]string{"app": "web"}, int32(mortalReplicas)
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	set.Spec.Replicas, set.Spec.Selector = &replicas, &metav1.LabelSelector{MatchLabels: labels}
	set.Spec.Template.Labels = labels
	set.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app", Image: "hello:1.0"}}
	cluster := &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}
	cluster.Spec.EvictAfter = &metav1.Duration{Duration: mortalEviction}
	return []object.Object{set, cluster, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}}
}

// beginMortal runs it until the test ends.
func beginMortal(t *testing.T) *mortal {
	m := &mortal{t: t, beats: nodelife.NewHeartbeats(time.Now()), dead: map[string]bool{}, runs: map[string]map[types.UID]bool{}, calm: map[types.UID]string{}}
	objects := mortalObjects()
	for i := range mortalNodes {
		m.names = append(m.names, fmt.Sprintf("n%d", i))
		m.runs[m.names[i]] = map[types.UID]bool{}
		objects = append(objects, mortalNode(m.names[i]))
	}
	m.store = statetest.New(t, objects...)
	metrics, log := newMetrics(prometheus.NewRegistry(), m.store), slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return sched.Run(ctx, m.store, log, metrics.sched) })
	for _, c := range controllers(m.beats) {
		g.Go(func() error { return c.Run(ctx, m.store, log, metrics.engine) })
	}
	t.Cleanup(func() { cancel(); _ = g.Wait() })
	return m
}

// pass lets time pass, in which the living nodes do their part each second, and nothing may go wrong.
func (m *mortal) pass(d time.Duration) {
	for range d / time.Second {
		for _, name := range m.names {
			if !m.dead[name] {
				m.beats.Seen(name, time.Now())
				statetest.Update(m.t, m.store, func(tx *state.Txn) { m.act(tx, name) })
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		m.check()
	}
}

// act is what an agent does: it starts what is bound to it, and stops what is to go or what the server knows no more.
func (m *mortal) act(tx *state.Txn, name string) {
	known := map[types.UID]bool{}
	for _, pod := range slices.Collect(state.ListBy(tx, tables.PodsByNode, name)) {
		if pod.DeletionTimestamp != nil {
			tx.Delete(pod)
			continue
		}
		known[pod.UID], m.runs[name][pod.UID] = true, true
		if !isReady(pod) {
			changed := pod.DeepCopy()
			changed.Status.Phase = corev1.PodRunning
			changed.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			tx.SetStatus(changed)
		}
	}
	maps.DeleteFunc(m.runs[name], func(uid types.UID, _ bool) bool { return !known[uid] })
}

func (m *mortal) die(name string) {
	m.dead[name] = true
	maps.DeleteFunc(m.calm, func(_ types.UID, node string) bool { return node == name })
}

// back is a node that registers again, with all that it still runs.
func (m *mortal) back(name string) {
	delete(m.dead, name)
	m.beats.Seen(name, time.Now())
	statetest.Update(m.t, m.store, func(tx *state.Txn) {
		node, _ := state.Get[*corev1.Node](tx, state.Key{Name: name})
		changed := node.DeepCopy()
		changed.Status = mortalNode(name).Status
		tx.SetStatus(changed)
	})
}

// check holds at every instant: no more Pods than wanted, and none that is well is taken away (P5).
func (m *mortal) check() {
	m.t.Helper()
	here, active := map[types.UID]bool{}, 0
	for pod := range state.List[*corev1.Pod](m.store.View(), "") {
		if pod.DeletionTimestamp == nil {
			active++
			here[pod.UID] = true
		}
		if pod.DeletionTimestamp == nil && isReady(pod) && !m.dead[pod.Spec.NodeName] {
			m.calm[pod.UID] = pod.Spec.NodeName
		}
	}
	if active > mortalReplicas {
		m.t.Fatalf("%d Pods are to run, want at most %d", active, mortalReplicas)
	}
	for uid, node := range m.calm {
		if !here[uid] {
			m.t.Fatalf("Pod %s is to go although node %s has lived on", uid, node)
		}
	}
}

// atRest fails unless exactly the wanted Pods run, on living nodes.
func (m *mortal) atRest() {
	m.t.Helper()
	pods, running := 0, 0
	for pod := range state.List[*corev1.Pod](m.store.View(), "") {
		if !isReady(pod) || m.dead[pod.Spec.NodeName] {
			m.t.Errorf("Pod %s on node %s is ready: %t; the node is dead: %t", pod.Name, pod.Spec.NodeName, isReady(pod), m.dead[pod.Spec.NodeName])
		}
		pods++
	}
	for _, name := range m.names {
		if !m.dead[name] {
			running += len(m.runs[name])
		}
	}
	if pods != mortalReplicas || running != mortalReplicas {
		m.t.Errorf("there are %d Pods, and %d run on living nodes, want %d", pods, running, mortalReplicas)
	}
}

// Nodes die and return at random, never half of them at once: then nothing would be replaced, which has tests of its own.
func TestReplicasSurviveNodesThatDieAndReturn(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 0))
				m := beginMortal(t)
				m.pass(10 * time.Second)
				m.atRest()
				for range 12 {
					name := m.names[random.IntN(len(m.names))]
					switch {
					case m.dead[name]:
						m.back(name)
					case len(m.dead) < (mortalNodes-1)/2:
						m.die(name)
					}
					m.pass(time.Duration(random.IntN(90)) * time.Second)
				}
				m.pass(5 * time.Minute)
				m.atRest()
			})
		})
	}
}
