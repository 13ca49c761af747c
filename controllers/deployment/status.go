package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the Progressing condition that decide something; the others are only read by people.
const (
	reasonAvailable = "NewReplicaSetAvailable"
	reasonUpdated   = "ReplicaSetUpdated"
	reasonTimedOut  = "ProgressDeadlineExceeded"
	reasonPaused    = "DeploymentPaused"
	reasonResumed   = "DeploymentResumed"
)

// report writes the Deployment's revision and status. It returns when to look at the progress deadline again.
func (r *rollout) report() time.Duration {
	r.writeRevision()
	r.sum()
	r.judgeAvailability()
	r.judgeProgress()
	reported := r.d.DeepCopy()
	reported.Status = *r.status
	r.tx.SetStatus(reported)
	return r.deadline()
}

// writeRevision copies the current ReplicaSet's revision to the Deployment.
func (r *rollout) writeRevision() {
	if r.current == nil || r.d.Annotations[revisionAnnotation] == r.current.Annotations[revisionAnnotation] {
		return
	}
	d := r.d.DeepCopy()
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[revisionAnnotation] = r.current.Annotations[revisionAnnotation]
	r.tx.Update(d)
}

// sum adds up the statuses of the ReplicaSets.
func (r *rollout) sum() {
	s := r.status
	s.ObservedGeneration = r.d.Generation
	s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas = 0, 0, 0, 0
	terminating, specified := int32(0), int32(0)
	for _, rs := range r.sets {
		s.Replicas += rs.Status.Replicas
		s.ReadyReplicas += rs.Status.ReadyReplicas
		s.AvailableReplicas += rs.Status.AvailableReplicas
		specified += replicas(rs)
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	if r.current != nil {
		s.UpdatedReplicas = r.current.Status.Replicas
	}
	s.UnavailableReplicas = max(specified-s.AvailableReplicas, 0)
	s.TerminatingReplicas = &terminating
}

func (r *rollout) judgeAvailability() {
	if r.status.AvailableReplicas >= r.wanted()-r.maxUnavailable() {
		r.condition(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
		return
	}
	r.condition(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
}

// complete says whether all Pods wanted are of the current template and available, and no others are left.
func (r *rollout) complete() bool {
	r.sum()
	s := r.status
	return s.UpdatedReplicas == r.wanted() && s.Replicas == r.wanted() && s.AvailableReplicas == r.wanted()
}

// judgeProgress says how the rollout goes, if the Deployment has a deadline for it.
func (r *rollout) judgeProgress() {
	if !r.hasDeadline() {
		r.remove(appsv1.DeploymentProgressing)
		return
	}
	r.restartProgress()
	before := r.lookUp(appsv1.DeploymentProgressing)
	if before != nil && before.Reason == reasonAvailable && r.status.Replicas == r.status.UpdatedReplicas {
		return
	}
	subject := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.current != nil {
		subject = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	switch {
	case r.d.Spec.Paused:
	case r.complete():
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonAvailable, subject+" has successfully progressed.")
	case r.progressed():
		r.progress(reasonUpdated, subject+" is progressing.")
	case r.overdue(before):
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing.")
	}
	r.explainWait()
}

// restartProgress starts the clock of a rollout whose ReplicaSet cannot be created yet: what was said of the rollout
// before it no longer holds.
func (r *rollout) restartProgress() {
	c := r.lookUp(appsv1.DeploymentProgressing)
	if r.current == nil && r.d.Status.ObservedGeneration < r.d.Generation && (c == nil || c.Reason != reasonPaused) {
		r.progress(reasonUpdated, fmt.Sprintf("Deployment %q is progressing.", r.d.Name))
	}
}

// explainWait puts into the condition for which images the old Pods still run.
func (r *rollout) explainWait() {
	c := r.lookUp(appsv1.DeploymentProgressing)
	if c == nil || r.waits == "" {
		return
	}
	c.Message = "Old Pods keep running: " + r.waits
}

// progressed compares the status to be written with the one before.
func (r *rollout) progressed() bool {
	now, before := r.status, r.d.Status
	return now.UpdatedReplicas > before.UpdatedReplicas || now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		now.ReadyReplicas > before.ReadyReplicas || now.AvailableReplicas > before.AvailableReplicas
}

func (r *rollout) overdue(c *appsv1.DeploymentCondition) bool {
	if c == nil || c.Reason == reasonAvailable {
		return false
	}
	return c.Reason == reasonTimedOut || !r.now.Before(r.dueAt(c))
}

func (r *rollout) dueAt(c *appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second)
}

// deadline is how long until the rollout is overdue; 0 if it cannot become so.
func (r *rollout) deadline() time.Duration {
	c := r.lookUp(appsv1.DeploymentProgressing)
	if c == nil || r.d.Spec.Paused || c.Reason == reasonTimedOut || c.Reason == reasonAvailable {
		return 0
	}
	// Times are stored in whole seconds, and a little late is better than too early and once more.
	return max(r.dueAt(c).Sub(r.now), 0) + time.Second
}

func (r *rollout) hasDeadline() bool {
	return r.d.Spec.ProgressDeadlineSeconds != nil && *r.d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

// notePause stops and restarts the clock of the rollout when the Deployment is paused and resumed.
func (r *rollout) notePause() {
	c := r.lookUp(appsv1.DeploymentProgressing)
	paused := c != nil && c.Reason == reasonPaused
	switch {
	case !r.hasDeadline() || c != nil && c.Reason == reasonTimedOut:
	case r.d.Spec.Paused && !paused:
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !r.d.Spec.Paused && paused:
		r.condition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
}

// progress says that the rollout got on just now, whatever was said before.
func (r *rollout) progress(reason, message string) {
	if !r.hasDeadline() {
		return
	}
	r.put(appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reason, Message: message})
}

// condition is put unless the same status and reason stand there already.
func (r *rollout) condition(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	if c := r.lookUp(kind); c != nil && c.Status == status && c.Reason == reason {
		return
	}
	r.put(appsv1.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message})
}

func (r *rollout) put(c appsv1.DeploymentCondition) {
	c.LastUpdateTime, c.LastTransitionTime = metav1.NewTime(r.now), metav1.NewTime(r.now)
	if before := r.lookUp(c.Type); before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	r.remove(c.Type)
	r.status.Conditions = append(r.status.Conditions, c)
}

func (r *rollout) remove(kind appsv1.DeploymentConditionType) {
	r.status.Conditions = slices.DeleteFunc(r.status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}

// lookUp is the condition of a kind, in place, or nil.
func (r *rollout) lookUp(kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	i := slices.IndexFunc(r.status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &r.status.Conditions[i]
}
