package garbage

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/state"
)

// Events live as long as in Kubernetes, and there are never many more than eventsKept: 10 MB.
const (
	eventLife   = time.Hour
	eventsKept  = 10_000
	eventsEvery = time.Minute // nothing else depends on when exactly an Event ends
)

// events deletes old Events.
func events() engine.Controller {
	return engine.Controller{
		Name:    "garbage-events",
		Sources: []engine.Source{engine.Once(state.Key{Name: "events"})},
		Reconcile: func(tx *state.Txn, _ state.Key, now time.Time) (time.Duration, error) {
			all := slices.SortedStableFunc(state.List[*corev1.Event](tx, ""), func(a, b *corev1.Event) int {
				return lastSeen(a).Compare(lastSeen(b))
			})
			tooMany := len(all) - eventsKept
			for i, e := range all {
				if i >= tooMany && now.Sub(lastSeen(e)) < eventLife {
					break
				}
				if tx.Writes() >= burst {
					return engine.Soon, nil
				}
				tx.Delete(e)
			}
			return eventsEvery, nil
		},
	}
}

// lastSeen is when the Event happened last.
func lastSeen(e *corev1.Event) time.Time {
	at := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(at) {
			at = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(at) {
		at = e.Series.LastObservedTime.Time
	}
	return at
}
