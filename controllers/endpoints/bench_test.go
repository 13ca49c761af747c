package endpoints

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// crowd is a Service of n endpoints among as many Pods of others.
func crowd(n int) []object.Object {
	objects := []object.Object{service(asIs)}
	for i := range n {
		other := pod(fmt.Sprintf("other-%05d", i), "10.1.0.1", 8080, corev1.ConditionTrue)
		other.Labels = map[string]string{"app": "other"}
		objects = append(objects, pod(fmt.Sprintf("web-%05d", i), fmt.Sprintf("10.2.%d.%d", i/250, i%250), 8080, corev1.ConditionTrue), other)
	}
	return objects
}

// However many endpoints a Service has, a Pod's change is the change of one slice.
func TestOnePodOfManyChangesOneSlice(t *testing.T) {
	store := statetest.New(t, crowd(5_000)...)
	settle(t, store)
	if n := state.Len[*discoveryv1.EndpointSlice](store.View()); n != 50 {
		t.Errorf("%d slices, want 50", n)
	}
	statetest.Update(t, store, func(tx *state.Txn) {
		old, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "web-02500"})
		changed := old.DeepCopy()
		changed.Status.Conditions[0].Status = corev1.ConditionFalse
		tx.SetStatus(changed)
	})
	before := store.View().Version
	settle(t, store)
	if after := store.View().Version; after != before+1 {
		t.Errorf("%d objects were written, want one slice", after-before)
	}
	if !slices.Contains(shown(store), "10.2.10.0:8080 false/false/false web-02500") {
		t.Error("no slice says that the Pod is not ready")
	}
}

// BenchmarkOnePodOfMany is what a Pod's change costs a Service of 5 000 endpoints.
func BenchmarkOnePodOfMany(b *testing.B) {
	store := statetest.New(b, crowd(5_000)...)
	look := func(tx *state.Txn) error {
		_, err := reconcile(tx, web, time.Now())
		return err
	}
	if _, err := store.Update(b.Context(), look); err != nil {
		b.Fatal(err)
	}
	ready := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue}
	for i := 0; b.Loop(); i++ {
		_, err := store.Update(b.Context(), func(tx *state.Txn) error {
			old, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "web-02500"})
			changed := old.DeepCopy()
			changed.Status.Conditions[0].Status = ready[i%2]
			tx.SetStatus(changed)
			return look(tx)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
