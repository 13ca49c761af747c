package api_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// A Pod's status comes from its node, which need not be told of it: neither by a poll that is open nor by the next one.
func TestPodsPollPassesOverWhatTheNodeSaidItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, shopNode(metav1.ObjectMeta{Name: "n1"}), pod("a", "1", "n1"))
		a := local(store)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = a.Run(ctx) }()
		synctest.Wait()
		one, _ := state.Get[*corev1.Pod](store.View(), state.Key{Namespace: "a", Name: "1"})
		poll := func(version string) (resp link.PodsResponse, took time.Duration) {
			start := time.Now()
			resp, err := link.NewVia(inProcess{a, "n1"}, "server").Pods(t.Context(), link.PodsRequest{
				Node: "n1", Have: map[types.UID]string{one.UID: version}, Wait: metav1.Duration{Duration: 20 * time.Second}})
			if err != nil {
				t.Error(err)
			}
			return resp, time.Since(start)
		}
		change := func(fn func(*corev1.Pod), write func(*state.Txn, *corev1.Pod)) {
			time.Sleep(5 * time.Second) // virtual
			statetest.Update(t, store, func(tx *state.Txn) {
				now, _ := state.Get[*corev1.Pod](tx, state.KeyOf(one))
				now = now.DeepCopy()
				fn(now)
				write(tx, now)
			})
		}
		go change(func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, func(tx *state.Txn, p *corev1.Pod) { tx.SetStatus(p) })
		if resp, took := poll(one.ResourceVersion); len(resp.Pods) != 0 || took != 20*time.Second {
			t.Errorf("after its status changed: %d Pods after %s, want none after 20s", len(resp.Pods), took)
		}
		go change(func(p *corev1.Pod) { p.Labels = map[string]string{"x": "y"} }, func(tx *state.Txn, p *corev1.Pod) { tx.Update(p) })
		resp, took := poll(one.ResourceVersion)
		if len(resp.Pods) != 1 || took != 5*time.Second || resp.Pods[0].Labels["x"] != "y" || resp.Pods[0].Status.Phase != corev1.PodRunning {
			t.Fatalf("after its labels changed: %d Pods after %s, want it as it is after 5s", len(resp.Pods), took)
		}
		if again, took := poll(one.ResourceVersion); len(again.Pods) != 1 || took != 0 {
			t.Errorf("%d Pods after %s, want what was missed at once", len(again.Pods), took)
		}
		for _, elsewhere := range []string{"", "1000000"} {
			if again, took := poll(elsewhere); len(again.Pods) != 1 || took != 0 {
				t.Errorf("version %q: %d Pods after %s, want it at once", elsewhere, len(again.Pods), took)
			}
		}
		if again, took := poll(resp.Pods[0].ResourceVersion); len(again.Pods) != 0 || took != 20*time.Second {
			t.Errorf("%d Pods after %s, want no more news", len(again.Pods), took)
		}
	})
}
