package nodelife

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestTooManyNodesAreGone(t *testing.T) {
	for _, tc := range []struct {
		gone, all int
		want      bool
	}{{0, 0, false}, {0, 1, false}, {1, 1, true}, {1, 2, false}, {2, 2, true}, {2, 3, false}, {3, 3, true}, {2, 4, false}, {3, 6, true}, {3, 7, false}, {500, 1000, true}, {499, 1000, false}} {
		if got := excessive(tc.gone, tc.all); got != tc.want {
			t.Errorf("%d of %d: %t", tc.gone, tc.all, got)
		}
	}
}

// Thousands of nodes may fall silent in one second, and each asks.
func TestSilentNodesAreCountedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, empty := statetest.New(t, joined("n1"), readyPod("p1", "n1")), statetest.New(t)
		l := &life{beats: NewHeartbeats(time.Now())}
		now := time.Now()
		if !l.tooMany(silent.View(), now) {
			t.Fatal("the only node is silent, and that is not too many")
		}
		if !l.tooMany(empty.View(), now.Add(countFor-1)) {
			t.Error("counted again within the time that a count holds")
		}
		if l.tooMany(empty.View(), now.Add(countFor)) {
			t.Error("not counted again after it")
		}
	})
}

func TestDeadlineIsTheFirstThatATaintSets(t *testing.T) {
	at := metav1.NewTime(time.Unix(1000, 0))
	taint := func(key string) corev1.Taint {
		return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}
	}
	tolerates := func(key string, seconds *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds}
	}
	soon, unreachable := int64(7), taint(corev1.TaintNodeUnreachable)
	soft := corev1.Taint{Key: "repair", Effect: corev1.TaintEffectNoSchedule, TimeAdded: &at}
	for name, tc := range map[string]struct {
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		want        time.Duration // after the taint; negative: never
	}{
		"no taint":                {want: -1},
		"one that only schedules": {taints: []corev1.Taint{soft}, want: -1},
		"lost, nothing said":      {taints: []corev1.Taint{unreachable}, want: time.Minute},
		"lost, a time said":       {taints: []corev1.Taint{unreachable}, tolerations: []corev1.Toleration{tolerates(corev1.TaintNodeUnreachable, &soon)}, want: 7 * time.Second},
		"lost, forever":           {taints: []corev1.Taint{unreachable}, tolerations: []corev1.Toleration{tolerates("", nil)}, want: -1},
		"drained":                 {taints: []corev1.Taint{taint("repair")}, want: 0},
		"drained, a time said":    {taints: []corev1.Taint{taint("repair")}, tolerations: []corev1.Toleration{tolerates("repair", &soon)}, want: 7 * time.Second},
		"lost and drained":        {taints: []corev1.Taint{unreachable, taint("repair")}, tolerations: []corev1.Toleration{tolerates("repair", &soon)}, want: 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: tc.tolerations}}
			end, _, leaves := deadline(pod, tc.taints, time.Minute)
			if leaves != (tc.want >= 0) || leaves && end.Sub(at.Time) != tc.want {
				t.Errorf("%v after the taint, %t", end.Sub(at.Time), leaves)
			}
		})
	}
}

// A Pod that its spec binds to a node which is gone is made anew as often as it is struck off. It must have its time each
// time, or nothing else would ever be done.
func TestAPodThatComesToAGoneNodeHasItsTimeThere(t *testing.T) {
	tainted := metav1.NewTime(time.Unix(1000, 0))
	pod := readyPod("late", "n1")
	pod.CreationTimestamp = metav1.NewTime(tainted.Add(time.Hour))
	taints := []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &tainted}}
	if at, _, leaves := deadline(pod, taints, time.Minute); !leaves || at.Sub(pod.CreationTimestamp.Time) != time.Minute {
		t.Errorf("it leaves %s after it was made, want 1m0s", at.Sub(pod.CreationTimestamp.Time))
	}
}

func TestHalfOfTheNodesGoneMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		m := beginLarge(t, n)
		defer m.end()
		for i := range n / 2 {
			m.alive[fmt.Sprintf("n%04d", i)] = false
		}
		m.pass(15 * time.Minute) // three times what each Pod may stay
		if m.pods() != n {
			t.Fatalf("%d Pods left of %d", m.pods(), n)
		}
		if c := paused(m.store); c == nil || c.Status != metav1.ConditionTrue {
			t.Errorf("the Cluster does not say so: %+v", c)
		}
		for i := range n/2 - 10 {
			m.register(fmt.Sprintf("n%04d", i))
		}
		m.pass(50 * time.Second)
		if m.pods() != n {
			t.Errorf("%d Pods: those of the last nodes left before these had the time to come back", m.pods())
		}
		m.pass(20 * time.Second)
		if m.pods() != n-10 {
			t.Errorf("%d Pods, want those of ten nodes gone", m.pods())
		}
	})
}

// A node that has just joined is not Ready for a moment. As long as it has nothing to lose, that is no reason for caution.
func TestNodesWithoutPodsPauseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh := joined("fresh")
		fresh.Status.Conditions[0].Status = corev1.ConditionFalse
		m := begin(t, statetest.New(t, home(), fresh), "fresh")
		defer m.end()
		m.pass(5 * time.Second)
		if c := paused(m.store); c != nil {
			t.Errorf("a node without Pods paused evictions: %+v", c)
		}
	})
}

func TestFivePercentGoneIsReplacedWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		m := beginLarge(t, n)
		defer m.end()
		for i := range n / 20 {
			m.alive[fmt.Sprintf("n%04d", i)] = false
		}
		m.pass(timeToLive + 300*time.Second - time.Second)
		if m.pods() != n {
			t.Fatalf("%d Pods: some left early", m.pods())
		}
		m.pass(10 * time.Second)
		if want := n - n/20; m.pods() != want {
			t.Errorf("%d Pods, want %d", m.pods(), want)
		}
	})
}

// However long a term has lasted, no more than a hundredth of the nodes begin to lose their Pods in a second.
func TestNodesLostTogetherLoseTheirPodsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, gone = 200, 40
		m := beginLarge(t, n)
		defer m.end()
		m.pass(time.Hour)
		for i := range gone {
			m.alive[fmt.Sprintf("n%04d", i)] = false
		}
		m.pass(timeToLive + 300*time.Second - time.Second)
		if m.pods() != n {
			t.Fatalf("%d Pods: some left early", m.pods())
		}
		for last := n; last > n-gone; last = m.pods() {
			if m.pass(time.Second); m.pods() < last-3 { // two, and one at either end of the second
				t.Fatalf("%d Pods left within a second", last-m.pods())
			}
		}
	})
}

func beginLarge(t *testing.T, n int) *term {
	names, objects := named(n)
	for i, name := range names {
		objects = append(objects, readyPod(fmt.Sprint("p", i), name))
	}
	return begin(t, statetest.New(t, append(objects, home())...), names...)
}

func paused(s *state.Store) *metav1.Condition {
	cluster, _ := state.Get[*object.Cluster](s.View(), state.Key{Name: "home"})
	return apimeta.FindStatusCondition(cluster.Status.Conditions, object.EvictionsPaused)
}

// fleet is a ReplicaSet's Pods on one node, which Git wants empty, with a budget of which two must stay.
func fleet(replicas int32) []object.Object {
	app := map[string]string{"app": "web"}
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "rs"}, Spec: appsv1.ReplicaSetSpec{Replicas: &replicas}}
	least := intstr.FromInt32(2)
	node := joined("n0000")
	node.Spec.Taints = []corev1.Taint{{Key: "repair", Effect: corev1.TaintEffectNoExecute}}
	objects := []object.Object{home(), node, rs, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: app}}}}
	for i := range replicas {
		pod := readyPod(fmt.Sprint("web-", i), "n0000")
		pod.Labels, pod.OwnerReferences = app, []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
		objects = append(objects, pod)
	}
	return objects
}

func dying(s *state.Store) (pods []*corev1.Pod) {
	for pod := range state.List[*corev1.Pod](s.View(), "") {
		if pod.DeletionTimestamp != nil {
			pods = append(pods, pod)
		}
	}
	return pods
}

func TestADrainKeepsToTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := begin(t, statetest.New(t, fleet(5)...), "n0000")
		defer m.end()
		m.pass(time.Minute)
		gone := dying(m.store)
		if len(gone) != 3 {
			t.Fatalf("%d of 5 Pods are evicted although 2 must stay", len(gone))
		}
		if c := gone[0].Status.Conditions; c[len(c)-1].Type != corev1.DisruptionTarget {
			t.Errorf("conditions %+v", c)
		}
		told := false
		for e := range state.List[*corev1.Event](m.store.View(), "") {
			told = told || e.Reason == reasonWaiting && e.InvolvedObject.Name == "n0000"
		}
		if !told {
			t.Error("nobody is told what the node waits for")
		}
	})
}

// Whatever dies and comes back, at no time fewer Pods are left than the budget wants by a drain's doing.
func TestBudgetsHoldWhateverHappens(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			m := begin(t, statetest.New(t, fleet(5)...), "n0000")
			defer m.end()
			next := 5
			for range 30 {
				m.pass(time.Duration(random.IntN(15)) * time.Second)
				statetest.Update(t, m.store, func(tx *state.Txn) { next = replaceOne(tx, dying(m.store), next) })
				synctest.Wait()
				if left := healthy(m.store); left < 2 {
					t.Fatalf("seed %d: %d Pods left", seed, left)
				}
			}
			if n := len(dying(m.store)); n+healthy(m.store) < 5 {
				t.Errorf("seed %d: %d Pods evicted and %d healthy", seed, n, healthy(m.store))
			}
		})
	}
}

// replaceOne lets a node stop one Pod, and its ReplicaSet start another elsewhere.
func replaceOne(tx *state.Txn, gone []*corev1.Pod, next int) int {
	if len(gone) == 0 {
		return next
	}
	pod := gone[0].DeepCopy()
	tx.Delete(pod)
	fresh := readyPod(fmt.Sprint("web-", next), "elsewhere")
	fresh.Labels, fresh.OwnerReferences, fresh.UID = pod.Labels, pod.OwnerReferences, types.UID(fmt.Sprint("u", next))
	tx.Create(fresh)
	return next + 1
}

func healthy(s *state.Store) (n int) {
	for pod := range state.List[*corev1.Pod](s.View(), "") {
		if pod.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}
