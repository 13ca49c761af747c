package garbage

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// finishedKept is how many Pods that have run to their end stay behind per ReplicaSet, for people to look at.
const finishedKept = 3

// finished deletes the oldest Pods that have run to their end and that their ReplicaSet has long replaced.
func finished() engine.Controller {
	owner := engine.Owner[*corev1.Pod]("ReplicaSet")
	return engine.Controller{
		Name: "garbage-finished",
		Sources: []engine.Source{
			engine.Each(func(pod *corev1.Pod) (state.Key, bool) {
				key, ok := owner(pod)
				return key, ok && podcontrol.Finished(pod) && pod.DeletionTimestamp == nil
			}),
		},
		Reconcile: func(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
			rs, ok := state.Get[*appsv1.ReplicaSet](tx, key)
			if !ok {
				return 0, nil
			}
			done := slices.SortedStableFunc(state.ListBy(tx, tables.PodsByOwner, string(rs.UID)), func(a, b *corev1.Pod) int {
				return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
			})
			done = slices.DeleteFunc(done, func(pod *corev1.Pod) bool {
				return !podcontrol.Finished(pod) || pod.DeletionTimestamp != nil
			})
			for _, pod := range done[:max(len(done)-finishedKept, 0)] {
				podcontrol.Delete(tx, pod, now)
			}
			return 0, nil
		},
	}
}
