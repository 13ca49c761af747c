package netpolicy

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api/netpolicy/suite"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// edit is one change of one object; nil where it was not, or is not.
type edit struct{ old, now object.Object }

// concerned asks an index about edits in the order that is hardest for it: Pods first, policies last.
func concerned(x *Index, edits []edit) (keys []state.Key) {
	for _, e := range edits {
		keys = append(keys, about(e, x.Pod)...)
	}
	for _, e := range edits {
		keys = append(keys, about(e, x.Namespace)...)
	}
	for _, e := range edits {
		keys = append(keys, about(e, x.Policy)...)
	}
	return keys
}

func about[T object.Object](e edit, ask func(old, now T) []state.Key) []state.Key {
	old, was := e.old.(T)
	now, is := e.now.(T)
	if !was && !is {
		return nil
	}
	return ask(old, now)
}

func resolveAll(r state.Reader) map[state.Key]link.Policy {
	all := map[state.Key]link.Policy{}
	for p := range state.List[*networkingv1.NetworkPolicy](r, "") {
		all[state.KeyOf(p)] = Resolve(r, p)
	}
	return all
}

// TestIndexNamesEveryPolicyThatChanges makes random changes, several at a time, and wants no difference to resolving everything.
func TestIndexNamesEveryPolicyThatChanges(t *testing.T) {
	cases := suite.Cases()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		s := statetest.New(t, objectsOf(cases[random.IntN(len(cases))])...)
		x, resolved := NewIndex(s.View()), resolveAll(s.View())
		for range 60 {
			var edits []edit
			for range 1 + random.IntN(3) {
				edits = append(edits, change(t, s, random, cases))
			}
			view := s.View()
			for _, key := range concerned(x, edits) {
				delete(resolved, key)
				if p, ok := state.Get[*networkingv1.NetworkPolicy](view, key); ok {
					resolved[key] = Resolve(view, p)
				}
			}
			if diff := cmp.Diff(resolveAll(view), resolved); diff != "" {
				t.Fatalf("seed %d: -want +got:\n%s", seed, diff)
			}
		}
	}
}

// change makes, removes or changes one object as it might be in any of the cases.
func change(t *testing.T, s *state.Store, random *rand.Rand, cases []suite.Cluster) edit {
	t.Helper()
	objects := objectsOf(cases[random.IntN(len(cases))])
	wanted := objects[random.IntN(len(objects))].DeepCopyObject().(object.Object)
	kind, key := object.KindOf(wanted), state.KeyOf(wanted)
	old, _ := state.GetKind(s.View(), kind, key)
	statetest.Update(t, s, func(tx *state.Txn) {
		live, exists := state.GetKind(tx, kind, key)
		if !exists {
			tx.Create(wanted)
			return
		}
		wanted.SetUID(live.GetUID())
		wanted.SetResourceVersion(live.GetResourceVersion())
		pod, isPod := wanted.(*corev1.Pod)
		switch what := random.IntN(4); {
		case what == 0:
			tx.Delete(live)
		case what < 3 && isPod:
			pod.Status = statuses[random.IntN(len(statuses))]
			tx.SetStatus(pod)
		default:
			tx.Update(wanted)
		}
	})
	now, _ := state.GetKind(s.View(), kind, key)
	return edit{old, now}
}

var statuses = []corev1.PodStatus{
	{Phase: corev1.PodPending},
	{Phase: corev1.PodRunning, PodIP: "10.244.7.30"},
	{Phase: corev1.PodRunning, PodIP: "10.244.7.31", PodIPs: []corev1.PodIP{{IP: "10.244.7.31"}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady}}},
	{Phase: corev1.PodFailed, PodIP: "10.244.7.30"},
}

func TestIndexPassesOverWhatPoliciesDoNotSee(t *testing.T) {
	c := caseNamed(t, "three policies over all namespaces")
	x := NewIndex(statetest.New(t, objectsOf(c)...).View())
	ready := c.Pods[0].DeepCopy()
	ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if keys := x.Pod(c.Pods[0], ready); len(keys) > 0 {
		t.Errorf("readiness concerns %v", keys)
	}
	annotated := c.Namespaces[2].DeepCopy()
	annotated.Annotations = map[string]string{"a": "b"}
	if keys := x.Namespace(c.Namespaces[2], annotated); len(keys) > 0 {
		t.Errorf("an annotation concerns %v", keys)
	}
	if diff := cmp.Diff([]state.Key{{Namespace: "x", Name: "p"}}, x.Pod(c.Pods[0], nil)); diff != "" {
		t.Errorf("a Pod of x is gone: %s", diff)
	}
}

// BenchmarkPodChange has 2 000 Pods in 20 Namespaces and 200 policies, half of which look into all Namespaces with some label.
func BenchmarkPodChange(b *testing.B) {
	var objects []object.Object
	var first *corev1.Pod
	for n := range 20 {
		namespace := fmt.Sprintf("ns-%d", n)
		objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"n": fmt.Sprint(n)}}})
		for i := range 100 {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(i), Labels: map[string]string{"app": fmt.Sprint(i % 10)}}}
			pod.Status.PodIP = fmt.Sprintf("10.244.%d.%d", n, i+2)
			objects, first = append(objects, pod), pod
		}
		for i := range 10 {
			p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(i)}}
			p.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprint(i)}
			peer := networkingv1.NetworkPolicyPeer{PodSelector: &p.Spec.PodSelector}
			if i%2 == 0 {
				peer.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"n": fmt.Sprint(i)}}
			}
			p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{peer}}}
			objects = append(objects, p)
		}
	}
	view := statetest.New(b, objects...).View()
	x := NewIndex(view)
	b.ReportAllocs()
	for b.Loop() {
		for _, key := range x.Pod(nil, first) {
			p, _ := state.Get[*networkingv1.NetworkPolicy](view, key)
			Resolve(view, p)
		}
	}
}
