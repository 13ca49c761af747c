package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func configMap(name string, labels map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels}}
}

func key(name string) state.Key { return state.Key{Namespace: "default", Name: name} }

// recorder notes which keys were reconciled when, in seconds since the start.
type recorder struct {
	start time.Time

	mu   sync.Mutex
	seen []string
}

func (r *recorder) note(k state.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, fmt.Sprintf("%s@%v", k.Name, time.Since(r.start)))
}

func (r *recorder) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// start runs a controller until the test ends; the result is what Run returns.
func start(t *testing.T, store *state.Store, c engine.Controller, reg *prometheus.Registry) (stop func() error) {
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	metrics := engine.NewMetrics(reg)
	go func() { ended <- c.Run(ctx, store, slog.New(slog.DiscardHandler), metrics) }()
	return func() error {
		cancel(errTerm)
		return <-ended
	}
}

var errTerm = errors.New("the term is over")

func each() engine.Source { return engine.Each(engine.Self[*corev1.ConfigMap]) }

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("reconciled %q, want %q", got, want)
	}
}

func TestRunSeesWhatIsThereAndWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, configMap("a", nil))
		r := &recorder{start: time.Now()}
		stop := start(t, store, engine.Controller{Name: "x", Sources: []engine.Source{each()},
			Reconcile: func(_ *state.Txn, k state.Key, _ time.Time) (time.Duration, error) { r.note(k); return 0, nil },
		}, prometheus.NewRegistry())
		expect(t, r.take(), "a@0s")
		statetest.Put(t, store, configMap("b", nil))
		expect(t, r.take(), "b@0s")
		statetest.Update(t, store, func(tx *state.Txn) {
			a, _ := state.Get[*corev1.ConfigMap](tx, key("a"))
			tx.Delete(a)
		})
		expect(t, r.take(), "a@0s")
		if err := stop(); !errors.Is(err, errTerm) {
			t.Errorf("Run returned %v, want the cause of the context's end", err)
		}
	})
}

func TestRunComesBackWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, configMap("a", nil))
		r := &recorder{start: time.Now()}
		again := []time.Duration{10 * time.Second, time.Minute, 0}
		stop := start(t, store, engine.Controller{Name: "x", Sources: []engine.Source{each()},
			Reconcile: func(_ *state.Txn, k state.Key, _ time.Time) (time.Duration, error) {
				r.note(k)
				next := again[0]
				again = again[1:]
				return next, nil
			},
		}, prometheus.NewRegistry())
		time.Sleep(time.Hour)
		expect(t, r.take(), "a@0s", "a@10s", "a@1m10s")
		_ = stop()
	})
}

func TestRunRetriesFailuresLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, configMap("a", nil))
		r := &recorder{start: time.Now()}
		reg := prometheus.NewRegistry()
		stop := start(t, store, engine.Controller{Name: "x", Sources: []engine.Source{each()},
			Reconcile: func(tx *state.Txn, k state.Key, _ time.Time) (time.Duration, error) {
				r.note(k)
				tx.Create(configMap("never", nil))
				return 0, errors.New("no")
			},
		}, reg)
		time.Sleep(40 * time.Millisecond)
		expect(t, r.take(), "a@0s", "a@5ms", "a@15ms", "a@35ms")
		time.Sleep(time.Hour)
		if n := len(r.take()); n < 100 || n > 140 {
			t.Errorf("%d tries in an hour, want one every 30 s", n)
		}
		if state.Len[*corev1.ConfigMap](store.View()) != 1 {
			t.Error("a reconcile that failed has written")
		}
		if got := metric(t, reg, "mainstay_reconcile_errors_total"); got < 100 {
			t.Errorf("%v errors counted", got)
		}
		_ = stop()
	})
}

func TestOneKeyIsNeverReconciledTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, configMap("a", nil), configMap("b", nil))
		var mu sync.Mutex
		running, most, calls := map[state.Key]int{}, 0, 0
		stop := start(t, store, engine.Controller{Name: "x", Workers: 8, Sources: []engine.Source{each()},
			Reconcile: func(tx *state.Txn, k state.Key, _ time.Time) (time.Duration, error) {
				mu.Lock()
				running[k]++
				most, calls = max(most, running[k]), calls+1
				mu.Unlock()
				time.Sleep(time.Second) // virtual time, so that changes come while the key is being worked on
				mu.Lock()
				running[k]--
				mu.Unlock()
				return 0, nil
			},
		}, prometheus.NewRegistry())
		for i := range 10 {
			time.Sleep(300 * time.Millisecond)
			statetest.Update(t, store, func(tx *state.Txn) {
				a, _ := state.Get[*corev1.ConfigMap](tx, key("a"))
				a = a.DeepCopy()
				a.Data = map[string]string{"i": fmt.Sprint(i)}
				tx.Update(a)
			})
		}
		time.Sleep(time.Minute)
		_ = stop() // and with it every worker, so that the counts below are at rest
		if most != 1 {
			t.Errorf("%d at a time", most)
		}
		if calls < 4 || calls > 6 { // b once; a at the start, and once for all that came while it was worked on
			t.Errorf("%d reconciles", calls)
		}
	})
}

func TestSourcesNameOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		controlled := true
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p",
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "rs", Controller: &controlled}}}}
		store := statetest.New(t, configMap("a", nil))
		r := &recorder{start: time.Now()}
		stop := start(t, store, engine.Controller{Name: "x", Sources: []engine.Source{
			engine.Each(engine.Owner[*corev1.Pod]("ReplicaSet")),
			engine.Once(key("once")),
			engine.OnDelete(func(_ state.Reader, o *corev1.ConfigMap, add func(state.Key)) { add(state.KeyOf(o)) }),
		}, Reconcile: func(_ *state.Txn, k state.Key, _ time.Time) (time.Duration, error) { r.note(k); return 0, nil },
		}, prometheus.NewRegistry())
		expect(t, r.take(), "once@0s")
		statetest.Put(t, store, pod)
		expect(t, r.take(), "rs@0s")
		statetest.Update(t, store, func(tx *state.Txn) {
			p, _ := state.Get[*corev1.Pod](tx, key("p"))
			p = p.DeepCopy()
			p.OwnerReferences[0].Name = "other"
			tx.Update(p)
		})
		if got := r.take(); !slices.Contains(got, "rs@0s") || !slices.Contains(got, "other@0s") {
			t.Errorf("reconciled %q, want the old owner and the new one", got)
		}
		statetest.Update(t, store, func(tx *state.Txn) {
			a, _ := state.Get[*corev1.ConfigMap](tx, key("a"))
			tx.Delete(a)
		})
		expect(t, r.take(), "a@0s")
		_ = stop()
	})
}

// A feed that was overrun may have hidden that an object came and went: everything is listed again.
func TestRunListsAgainWhenItsFeedWasOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, configMap("a", nil))
		r := &recorder{start: time.Now()}
		block := make(chan struct{})
		stop := start(t, store, engine.Controller{Name: "x", Sources: []engine.Source{
			engine.Each(engine.Self[*corev1.ConfigMap]),
			engine.EachMany(func(_ state.Reader, s *corev1.Secret, add func(state.Key)) {
				<-block // keeps the follower from reading on
			}),
		}, Reconcile: func(_ *state.Txn, k state.Key, _ time.Time) (time.Duration, error) { r.note(k); return 0, nil },
		}, prometheus.NewRegistry())
		expect(t, r.take(), "a@0s")
		for i := range 40_000 {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", Labels: map[string]string{"i": fmt.Sprint(i)}}}
			statetest.Update(t, store, func(tx *state.Txn) {
				if old, ok := state.Get[*corev1.Secret](tx, key("s")); ok {
					secret.ResourceVersion = old.ResourceVersion
					tx.Update(secret)
				} else {
					tx.Create(secret)
				}
			})
		}
		close(block)
		expect(t, r.take(), "a@0s")
		_ = stop()
	})
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
