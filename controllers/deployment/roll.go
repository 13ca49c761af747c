package deployment

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// roll does one step of a rolling update: as much up, then as much down, as the bounds allow.
func (r *rollout) roll() {
	if r.current == nil {
		r.forgetScale()
		r.create()
	} else if n := replicas(r.current); n > r.wanted() {
		r.scale(r.current, r.wanted())
	} else if n < r.wanted() {
		r.scale(r.current, r.room(n))
	}
	r.scaleDownOld()
	if r.complete() {
		r.cleanUp()
	}
}

// scaleDownOld first drops old Pods that are not available, then available ones as far as enough others are.
func (r *rollout) scaleDownOld() {
	if !slices.ContainsFunc(r.old(), func(rs *appsv1.ReplicaSet) bool { return replicas(rs) > 0 }) {
		r.waits = r.missingImages()
		return // without looking at what may be thousands of Pods
	}
	floor := r.wanted() - r.maxUnavailable()
	all, _ := r.totals()
	unavailable := replicas(r.current) - r.available(r.current)
	spare := all - floor - unavailable
	for _, rs := range r.old() {
		broken := replicas(rs) - r.available(rs)
		if n := min(broken, spare); n > 0 {
			r.scale(rs, replicas(rs)-n)
			spare -= n
		}
	}
	if r.waits = r.missingImages(); r.waits != "" {
		floor = r.wanted() // Only what new Pods already do in place of old ones lets these go.
	}
	_, available := r.totals()
	spare = min(spare, available-floor)
	for _, rs := range r.old() {
		if n := min(replicas(rs), spare); n > 0 {
			r.scale(rs, replicas(rs)-n)
			spare -= n
		}
	}
}

// recreate stops every old Pod, waits until none runs, and then starts the new ones.
func (r *rollout) recreate() {
	if r.waits = r.missingImages(); r.waits != "" {
		return
	}
	running := false
	for _, rs := range r.old() {
		running = running || r.running(rs) || replicas(rs) > 0
		r.scale(rs, 0)
	}
	switch {
	case running:
		return
	case r.current == nil:
		r.create()
	default:
		r.scale(r.current, r.wanted())
	}
	if r.complete() {
		r.cleanUp()
	}
}

// scale gives rs n replicas and reads the Deployment's ReplicaSets again.
func (r *rollout) scale(rs *appsv1.ReplicaSet, n int32) {
	before := replicas(rs)
	if before == n {
		return
	}
	r.resize(rs, n)
	r.said = append(r.said, scaledMessage(rs.Name, before, n))
}

// resize writes the replicas of rs, and for which scale of the Deployment that is.
func (r *rollout) resize(rs *appsv1.ReplicaSet, n int32) {
	sized := rs.DeepCopy()
	sized.Spec.Replicas = &n
	annotateScale(sized, r.wanted(), r.maxSurge())
	r.tx.Update(sized)
	r.find()
}
