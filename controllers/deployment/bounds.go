package deployment

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Decisions count Pods as they are in this snapshot, not as a ReplicaSet's status last said: a status may be one
// reconcile behind, and the bounds would be broken for that moment.

// wanted is how many Pods the Deployment asks for.
func (r *rollout) wanted() int32 {
	if r.d.Spec.Replicas == nil {
		return 1
	}
	return *r.d.Spec.Replicas
}

// maxSurge is how many Pods more than wanted there may be.
func (r *rollout) maxSurge() int32 {
	surge, _ := r.fenceposts()
	return surge
}

// maxUnavailable is how many Pods fewer than wanted may be available.
func (r *rollout) maxUnavailable() int32 {
	_, unavailable := r.fenceposts()
	return min(unavailable, r.wanted())
}

// fenceposts resolves percentages: surge is rounded up, unavailable down. If both become 0, one may be unavailable.
func (r *rollout) fenceposts() (surge, unavailable int32) {
	params := r.d.Spec.Strategy.RollingUpdate
	if !r.rolling() || params == nil {
		return 0, 0
	}
	surge = count(intstr.GetScaledValueFromIntOrPercent(value(params.MaxSurge), int(r.wanted()), true))
	unavailable = count(intstr.GetScaledValueFromIntOrPercent(value(params.MaxUnavailable), int(r.wanted()), false))
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

func value(v *intstr.IntOrString) *intstr.IntOrString {
	return intstr.ValueOrDefault(v, intstr.FromInt32(0))
}

// count is 0 for a malformed value, which validation has refused before.
func count(n int, err error) int32 {
	if err != nil {
		return 0
	}
	return int32(n)
}

// room is how many replicas a ReplicaSet of n may have so that all together stay within wanted and surge. A Pod that a
// ReplicaSet has yet to delete still counts.
func (r *rollout) room(n int32) int32 {
	if !r.rolling() {
		return r.wanted()
	}
	total := int32(0)
	for _, rs := range r.sets {
		total += max(replicas(rs), r.pods(rs))
	}
	add := min(r.wanted()+r.maxSurge()-total, r.wanted()-n)
	return n + max(add, 0)
}

func replicas(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

// pods counts the Pods of rs that run or will run.
func (r *rollout) pods(rs *appsv1.ReplicaSet) int32 {
	return r.tally(rs, podcontrol.Active)
}

// available counts the Pods of rs that will still be available once rs has deleted what it has too many.
func (r *rollout) available(rs *appsv1.ReplicaSet) int32 {
	minReady := time.Duration(r.d.Spec.MinReadySeconds) * time.Second
	n := r.tally(rs, func(pod *corev1.Pod) bool {
		wait, ready := podcontrol.AvailableIn(pod, minReady, r.now)
		return ready && wait == 0 && podcontrol.Active(pod)
	})
	return min(n, replicas(rs))
}

// running says whether a Pod of rs may still run, one that is being stopped included.
func (r *rollout) running(rs *appsv1.ReplicaSet) bool {
	return r.tally(rs, func(pod *corev1.Pod) bool { return !podcontrol.Finished(pod) }) > 0
}

func (r *rollout) tally(rs *appsv1.ReplicaSet, which func(*corev1.Pod) bool) int32 {
	n := int32(0)
	for pod := range state.ListBy(r.tx, tables.PodsByOwner, string(rs.UID)) {
		if which(pod) {
			n++
		}
	}
	return n
}

// totals sums what all ReplicaSets of the Deployment want and have available.
func (r *rollout) totals() (wanted, available int32) {
	for _, rs := range r.sets {
		wanted += replicas(rs)
		available += r.available(rs)
	}
	return wanted, available
}
