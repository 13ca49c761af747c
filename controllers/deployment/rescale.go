package deployment

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
)

// active lists the ReplicaSets that have replicas.
func (r *rollout) active() []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(r.sets), func(rs *appsv1.ReplicaSet) bool { return replicas(rs) == 0 })
}

// scaled says whether an active ReplicaSet was sized for another scale of the Deployment than it has now.
func (r *rollout) scaled() bool {
	return slices.ContainsFunc(r.active(), func(rs *appsv1.ReplicaSet) bool {
		desired, err := strconv.Atoi(rs.Annotations[desiredAnnotation])
		return err == nil && int32(desired) != r.wanted()
	})
}

// forgetScale says of every ReplicaSet that it was sized for the present scale: a commit that changes template and scale
// at once is one rollout to the new scale, and must not first start more Pods of the old template.
func (r *rollout) forgetScale() {
	for _, rs := range r.active() {
		r.resize(rs, replicas(rs))
	}
}

// rescale brings the ReplicaSets to the Deployment's scale without hastening or turning back a rollout that is under way.
func (r *rollout) rescale() {
	active := r.active()
	switch {
	case len(r.sets) == 0:
	case len(active) == 0:
		r.rescaleTo(r.newest(), r.wanted())
	case len(active) == 1:
		r.rescaleTo(active[0], r.wanted())
	case r.saturated():
		for _, rs := range r.old() {
			r.rescaleTo(rs, 0)
		}
	case r.rolling():
		r.proportionally(active)
	default:
		r.forgetScale()
	}
}

func (r *rollout) rescaleTo(rs *appsv1.ReplicaSet, n int32) {
	if replicas(rs) == n {
		r.resize(rs, n)
		return
	}
	r.scale(rs, n)
}

func (r *rollout) newest() *appsv1.ReplicaSet {
	if r.current != nil {
		return r.current
	}
	return r.sets[len(r.sets)-1]
}

// saturated says whether the current ReplicaSet does alone what the Deployment asks for.
func (r *rollout) saturated() bool {
	return r.current != nil && replicas(r.current) == r.wanted() && r.available(r.current) == r.wanted() &&
		r.current.Annotations[desiredAnnotation] == strconv.Itoa(int(r.wanted()))
}

// proportionally shares what is to be added or removed among the active ReplicaSets by their sizes, as Kubernetes does:
// the largest first and taking what is left over; among equals the newer when adding, the older when removing.
func (r *rollout) proportionally(active []*appsv1.ReplicaSet) {
	allowed := int32(0)
	if r.wanted() > 0 {
		allowed = r.wanted() + r.maxSurge()
	}
	change := allowed
	for _, rs := range active {
		change -= replicas(rs)
	}
	slices.SortStableFunc(active, func(a, b *appsv1.ReplicaSet) int {
		age := cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
		if change > 0 {
			age = -age
		}
		return cmp.Or(cmp.Compare(replicas(b), replicas(a)), age)
	})
	sizes, left := make([]int32, len(active)), change
	for i, rs := range active {
		share := r.share(rs)
		if change > 0 {
			share = min(share, left)
		} else {
			share = max(share, left)
		}
		sizes[i] = replicas(rs) + share
		left -= share
	}
	sizes[0] = max(sizes[0]+left, 0)
	for i, rs := range active {
		r.rescaleTo(rs, sizes[i])
	}
}

// share is by how much rs would have to change to keep its part of the whole.
func (r *rollout) share(rs *appsv1.ReplicaSet) int32 {
	if r.wanted() == 0 {
		return -replicas(rs)
	}
	before := number(rs, maxAnnotation)
	if before == 0 {
		before = int64(r.d.Status.Replicas)
	}
	if before == 0 {
		return 0
	}
	size := float64(replicas(rs)) * float64(r.wanted()+r.maxSurge()) / float64(before)
	return int32(math.Round(size)) - replicas(rs)
}
