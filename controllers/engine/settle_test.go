package engine_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// doubling makes, of a ConfigMap of n letters, one of n+1, up to ten, two at a time.
func doubling() engine.Controller {
	return engine.Controller{Name: "doubling", Sources: []engine.Source{each()},
		Reconcile: func(tx *state.Txn, k state.Key, _ time.Time) (time.Duration, error) {
			longer := key(k.Name + "x")
			if _, ok := state.Get[*corev1.ConfigMap](tx, longer); !ok && len(k.Name) < 10 {
				tx.Create(configMap(longer.Name, nil))
			}
			return 0, nil
		}}
}

func TestSettleRunsUntilNothingChanges(t *testing.T) {
	store := statetest.New(t, configMap("x", nil))
	counting, calls := doubling(), 0
	counting.Reconcile = func(tx *state.Txn, k state.Key, now time.Time) (time.Duration, error) {
		calls++
		if calls == 1 {
			return engine.Soon, nil
		}
		return doubling().Reconcile(tx, k, now)
	}
	if err := engine.Settle(t.Context(), store, []engine.Controller{counting}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := state.Len[*corev1.ConfigMap](store.View()); got != 10 {
		t.Errorf("%d objects, want 10", got)
	}
	calls = 1
	if err := engine.Settle(t.Context(), store, []engine.Controller{counting}, time.Now()); err != nil || calls != 11 {
		t.Errorf("settled again with %d calls, %v; want one for each object", calls-1, err)
	}
}

func TestSettleOnAForkLeavesTheStoreAlone(t *testing.T) {
	store := statetest.New(t, configMap("x", nil))
	fork := statetest.Run(t, state.Fork(store.View(), time.Now))
	if err := engine.Settle(t.Context(), fork, []engine.Controller{doubling()}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if here, there := store.View().Version, fork.View().Version; here != 1 || there != 10 {
		t.Errorf("versions %d and %d, want 1 and 10", here, there)
	}
}

func TestSettleNamesControllersThatNeverRest(t *testing.T) {
	store := statetest.New(t, configMap("x", nil))
	restless := engine.Controller{Name: "restless", Sources: []engine.Source{each()},
		Reconcile: func(tx *state.Txn, k state.Key, _ time.Time) (time.Duration, error) {
			o, _ := state.Get[*corev1.ConfigMap](tx, k)
			o = o.DeepCopy()
			o.Labels = map[string]string{"at": o.ResourceVersion}
			tx.Update(o)
			return 0, nil
		}}
	err := engine.Settle(t.Context(), store, []engine.Controller{doubling(), restless}, time.Now())
	if err == nil || !strings.Contains(err.Error(), "restless") {
		t.Errorf("err = %v, want one that names the controller", err)
	}
}
