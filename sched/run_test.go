package sched

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// running is a store with a scheduler on it, in a synctest bubble.
func running(t *testing.T, objects ...object.Object) *state.Store {
	t.Helper()
	s := statetest.New(t, objects...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, s, slog.New(slog.DiscardHandler), NewMetrics(prometheus.NewRegistry())) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return s
}

func nodeOf(s *state.Store, name string) string {
	p, _ := state.Get[*corev1.Pod](s.View(), state.Key{Namespace: "default", Name: name})
	return p.Spec.NodeName
}

func condition(t *testing.T, s *state.Store, name string) corev1.PodCondition {
	t.Helper()
	p, _ := state.Get[*corev1.Pod](s.View(), state.Key{Namespace: "default", Name: name})
	i := scheduledAt(p)
	if i < 0 {
		t.Fatalf("%s has no PodScheduled", name)
	}
	return p.Status.Conditions[i]
}

// events says reason and count of each Event about a Pod.
func events(s *state.Store, name string) map[string]int32 {
	found := map[string]int32{}
	for e := range state.List[*corev1.Event](s.View(), "default") {
		if e.InvolvedObject.Name == name {
			found[e.Reason+": "+e.Message] = e.Count
		}
	}
	return found
}

func TestAPodIsBoundAtOnceAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := running(t, aNode("a"))
		start := time.Now()
		time.Sleep(time.Minute) // The scheduler is idle by now.
		statetest.Put(t, s, aPod("p"))
		synctest.Wait()
		if took := time.Since(start) - time.Minute; nodeOf(s, "p") != "a" || took != 0 {
			t.Errorf("node = %q after %v, want a at once", nodeOf(s, "p"), took)
		}
		if c := condition(t, s, "p"); c.Status != corev1.ConditionTrue {
			t.Errorf("PodScheduled = %+v", c)
		}
		if got := events(s, "p"); got["Scheduled: Successfully assigned default/p to a"] != 1 {
			t.Errorf("events = %v", got)
		}
	})
}

func TestABurstIsGatheredFor50ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := running(t, aNode("a", has("pods", "100")))
		time.Sleep(time.Minute)
		for i := range 10 {
			statetest.Put(t, s, aPod(fmt.Sprint("p", i)))
			synctest.Wait()
		}
		if nodeOf(s, "p0") != "a" || nodeOf(s, "p1") != "" || nodeOf(s, "p9") != "" {
			t.Error("want the first at once and the others gathered")
		}
		time.Sleep(gather)
		synctest.Wait()
		if nodeOf(s, "p1") != "a" || nodeOf(s, "p9") != "a" {
			t.Error("the others were not bound after 50 ms")
		}
	})
}

func TestAPodThatFitsNowhereSaysWhyOnce(t *testing.T) {
	const why = "0/1 nodes are available: 1 Insufficient cpu."
	synctest.Test(t, func(t *testing.T) {
		s := running(t, aNode("a"), aPod("big", asks("cpu", "5")))
		if c := condition(t, s, "big"); c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable || c.Message != why {
			t.Errorf("PodScheduled = %+v", c)
		}
		version := s.View().Version
		for i := range 5 { // Nothing that matters: it is not looked at again, and nothing is written.
			time.Sleep(time.Minute)
			statetest.Put(t, s, aPod(fmt.Sprint("other", i), on("a")))
			synctest.Wait()
		}
		if got := s.View().Version; got != version+5 {
			t.Errorf("%d writes of its own, want none", got-version-5)
		}
		change(t, s, "other0", func(tx *state.Txn, p *corev1.Pod) { tx.Delete(p) }) // It is looked at again, in vain.
		time.Sleep(gather)
		synctest.Wait()
		if got := events(s, "big"); len(got) != 1 || got["FailedScheduling: "+why] != 1 {
			t.Errorf("events = %v", got)
		}
	})
}

func TestAParkedPodIsTriedAgainWhenSomethingMatters(t *testing.T) {
	for name, help := range map[string]func(t *testing.T, s *state.Store){
		"a node joins": func(t *testing.T, s *state.Store) { statetest.Put(t, s, aNode("b")) },
		"a Pod is gone": func(t *testing.T, s *state.Store) {
			change(t, s, "full", func(tx *state.Txn, p *corev1.Pod) { tx.Delete(p) })
		},
		"a Pod finished": func(t *testing.T, s *state.Store) {
			change(t, s, "full", func(tx *state.Txn, p *corev1.Pod) { p.Status.Phase = corev1.PodFailed; tx.SetStatus(p) })
		},
		"it asks for less": func(t *testing.T, s *state.Store) {
			change(t, s, "p", func(tx *state.Txn, p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = nil; tx.Update(p) })
		},
		"a node grows": func(t *testing.T, s *state.Store) {
			statetest.Update(t, s, func(tx *state.Txn) {
				n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "a"})
				n = n.DeepCopy()
				has("cpu", "8")(n)
				tx.SetStatus(n)
			})
		},
		"a taint goes": func(t *testing.T, s *state.Store) {
			statetest.Update(t, s, func(tx *state.Txn) {
				n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "tainted"})
				n = n.DeepCopy()
				n.Spec.Taints = nil
				tx.Update(n)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := running(t, aNode("a"), aNode("tainted", taint("x", corev1.TaintEffectNoSchedule)), aPod("full", on("a"), asks("cpu", "4")), aPod("p", asks("cpu", "1")))
				if nodeOf(s, "p") != "" {
					t.Fatal("it fits already")
				}
				time.Sleep(time.Minute)
				help(t, s)
				time.Sleep(gather)
				synctest.Wait()
				if nodeOf(s, "p") == "" {
					t.Errorf("not bound: %s", condition(t, s, "p").Message)
				}
			})
		})
	}
}

func change(t *testing.T, s *state.Store, name string, edit func(*state.Txn, *corev1.Pod)) {
	t.Helper()
	statetest.Update(t, s, func(tx *state.Txn) {
		p, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: name})
		edit(tx, p.DeepCopy())
	})
}

func TestPodsOfOneOwnerSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objects := []object.Object{aNode("a"), aNode("b"), aNode("c")}
		for i := range 9 {
			objects = append(objects, aPod(fmt.Sprint("p", i), ownedBy("rs")))
		}
		s := running(t, objects...)
		count := map[string]int{}
		for i := range 9 {
			count[nodeOf(s, fmt.Sprint("p", i))]++
		}
		if count["a"] != 3 || count["b"] != 3 || count["c"] != 3 {
			t.Errorf("Pods by node = %v, want 3 each", count)
		}
	})
}

func TestTheMoreImportantPodGetsTheLastPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		high := int32(10)
		s := running(t, aNode("a", has("pods", "1")), aPod("a-first-by-name"), aPod("important", func(p *corev1.Pod) { p.Spec.Priority = &high }))
		if nodeOf(s, "important") != "a" || nodeOf(s, "a-first-by-name") != "" {
			t.Errorf("important on %q, the other on %q", nodeOf(s, "important"), nodeOf(s, "a-first-by-name"))
		}
	})
}

func TestPodsThatWantNoNodeAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gated := aPod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} })
		s := running(t, aNode("a"), gated, aPod("done", in(corev1.PodFailed)), aPod("elsewhere", on("nowhere")))
		if got := s.View().Version; got != 4 {
			t.Errorf("version %d, want 4: nothing written", got)
		}
	})
}

// A node that changes while Pods are placed on it makes the transaction start over.
func TestANodeThatIsCordonedMeanwhileTakesNoPod(t *testing.T) {
	s := statetest.New(t, aNode("a"), aPod("p"))
	tries := 0
	statetest.Update(t, s, func(tx *state.Txn) {
		Bind(tx, time.Now())
		if tries++; tries == 1 {
			statetest.Update(t, s, func(tx *state.Txn) {
				n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "a"})
				n = n.DeepCopy()
				cordoned(n)
				tx.Update(n)
			})
		}
	})
	if nodeOf(s, "p") != "" {
		t.Error("bound to a node that was cordoned before the binding was written")
	}
}

// burst is a runner that has bound the first transaction's worth of so many Pods of one owner.
func burst(t *testing.T, pods int, nodes ...string) (*runner, *state.Store) {
	t.Helper()
	var objects []object.Object
	for _, n := range nodes {
		objects = append(objects, aNode(n, has("pods", "10000")))
	}
	for i := range pods {
		objects = append(objects, aPod(fmt.Sprintf("p%04d", i), ownedBy("web")))
	}
	s := statetest.New(t, objects...)
	r := &runner{store: s, remembered: newMemo(), parked: map[types.UID]int64{}, wake: make(chan struct{}, 1)}
	if result, more, err := r.batch(t.Context()); result.Bound != perTransaction || !more || err != nil {
		t.Fatalf("bound %d, more %t, %v; want %d and more", result.Bound, more, err, perTransaction)
	}
	return r, s
}

func podsOn(s *state.Store, node string) (n int) {
	for range state.ListBy(s.View(), tables.PodsByNode, node) {
		n++
	}
	return n
}

func TestOneLookPlacesManyTransactions(t *testing.T) {
	r, s := burst(t, 2*perTransaction+200, "a", "b", "c")
	view := r.seen.view
	if result, _, err := r.batch(t.Context()); result.Bound != perTransaction || err != nil {
		t.Fatalf("bound %d, %v", result.Bound, err)
	}
	if r.seen.view != view {
		t.Error("looked again although nothing had changed")
	}
	if result, more, err := r.batch(t.Context()); result.Bound != 200 || more || err != nil {
		t.Fatalf("bound %d, more %t, %v; want 200 and no more", result.Bound, more, err)
	}
	if a, b, c := podsOn(s, "a"), podsOn(s, "b"), podsOn(s, "c"); a != 400 || b != 400 || c != 400 {
		t.Errorf("%d, %d and %d Pods, want 400 on each", a, b, c)
	}
	if r.seen.view != nil {
		t.Error("still holds what it saw")
	}
}

func TestALookThatIsOutOfDateIsTakenAgain(t *testing.T) {
	for name, change := range map[string]func(tx *state.Txn){
		"a node was cordoned": func(tx *state.Txn) {
			n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "b"})
			n = n.DeepCopy()
			n.Spec.Unschedulable = true
			tx.Update(n)
		},
		"a Pod is gone": func(tx *state.Txn) {
			p, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: "p0599"})
			tx.Delete(p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := burst(t, perTransaction+100, "a", "b")
			before := podsOn(s, "b")
			statetest.Update(t, s, change)
			want := podsOn(s, "")
			if result, more, err := r.batch(t.Context()); result.Bound != want || more || err != nil {
				t.Fatalf("bound %d, more %t, %v; want %d", result.Bound, more, err, want)
			}
			if n, _ := state.Get[*corev1.Node](s.View(), state.Key{Name: "b"}); n.Spec.Unschedulable && podsOn(s, "b") != before {
				t.Errorf("%d Pods more on a node that was cordoned", podsOn(s, "b")-before)
			}
		})
	}
}
