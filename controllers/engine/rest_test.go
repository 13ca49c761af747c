package engine_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// changing runs a controller that takes that long to decide and then asks to come again as given, and changes its one key each
// 10 ms for the first tenth of a second after it was looked at first. It returns when the key was looked at within two seconds.
func changing(t *testing.T, takes time.Duration, again ...time.Duration) (seen []string) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, configMap("a", nil))
		r := &recorder{start: time.Now()}
		stop := start(t, store, engine.Controller{Name: "x", Sources: []engine.Source{each()},
			Reconcile: func(_ *state.Txn, k state.Key, _ time.Time) (next time.Duration, err error) {
				r.note(k)
				time.Sleep(takes)
				if len(again) > 0 {
					next, again = again[0], again[1:]
				}
				return next, nil
			},
		}, prometheus.NewRegistry())
		for i := range 10 {
			time.Sleep(10 * time.Millisecond)
			statetest.Update(t, store, func(tx *state.Txn) {
				a, _ := state.Get[*corev1.ConfigMap](tx, key("a"))
				a = a.DeepCopy()
				a.Labels = map[string]string{"i": fmt.Sprint(i)}
				tx.Update(a)
			})
		}
		time.Sleep(2 * time.Second)
		seen = r.take()
		_ = stop()
	})
	return seen
}

// What changes while a key rests is looked at once, when it has rested, and nothing is looked at without a change.
func TestKeyThatTakesLongToDecideRestsFourTimesAsLong(t *testing.T) {
	expect(t, changing(t, 30*time.Millisecond), "a@0s", "a@150ms")
}

func TestKeyThatIsDecidedQuicklyDoesNotRest(t *testing.T) {
	if seen := changing(t, time.Millisecond); len(seen) != 11 {
		t.Errorf("looked at %q, want once for each of 10 changes and the start", seen)
	}
}

func TestKeyThatHasMoreToDoDoesNotRestFirst(t *testing.T) {
	expect(t, changing(t, 95*time.Millisecond, engine.Soon), "a@0s", "a@95ms", "a@570ms")
}

func TestKeyThatRestsComesBackWhenAsked(t *testing.T) {
	expect(t, changing(t, 95*time.Millisecond, 0, 700*time.Millisecond), "a@0s", "a@475ms", "a@1.27s")
}
