package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setPhase sums the containers up. A Pod that has ended never comes back to life.
func setPhase(s *corev1.PodStatus, d desired, o *observed) {
	s.Phase = phaseOf(s, d, o)
	if last := o.Last.Phase; last == corev1.PodFailed || last == corev1.PodSucceeded {
		s.Phase = last
	}
	if s.Phase == o.Last.Phase {
		s.Reason, s.Message = o.Last.Reason, o.Last.Message
	}
	if _, over := deadline(d, o); over && s.Phase != corev1.PodSucceeded && o.Last.Phase != corev1.PodFailed {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, reasonDeadline, messageDeadline
	}
}

func phaseOf(s *corev1.PodStatus, d desired, o *observed) corev1.PodPhase {
	if initFailed(d, o) {
		return corev1.PodFailed
	}
	waits, running, ended, succeeded := !initialized(s, d, o), 0, 0, 0
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		end := c.State.Terminated
		if c.State.Waiting != nil {
			end = c.LastTerminationState.Terminated
		}
		switch {
		case c.State.Running != nil:
			running++
		case end == nil:
			waits = true
		default:
			ended++
			if end.ExitCode == 0 {
				succeeded++
			}
		}
	}
	switch {
	case waits:
		return corev1.PodPending
	case running > 0, !d.stop() && !finished(d, o):
		return corev1.PodRunning
	case ended == succeeded:
		return corev1.PodSucceeded
	default:
		return corev1.PodFailed
	}
}

// initialized reports whether every init container has done its part, or must have, since an app container has run.
func initialized(s *corev1.PodStatus, d desired, o *observed) bool {
	for i := range d.Pod.Spec.Containers {
		if last := o.latest(d.Pod.Spec.Containers[i].Name); last != nil && !last.Started.IsZero() {
			return true
		}
	}
	return len(incomplete(s, d)) == 0
}

// incomplete names the init containers that have not done their part.
func incomplete(s *corev1.PodStatus, d desired) []string {
	var list []string
	for i := range d.Pod.Spec.InitContainers {
		c, cs := &d.Pod.Spec.InitContainers[i], &s.InitContainerStatuses[i]
		if sidecar(c) && (cs.Started == nil || !*cs.Started) || !sidecar(c) && !cs.Ready {
			list = append(list, c.Name)
		}
	}
	return list
}

// setConditions derives the agent's conditions and keeps everybody else's.
func setConditions(s *corev1.PodStatus, d desired, o *observed) {
	for _, c := range o.Last.Conditions {
		if !ours(c.Type) {
			s.Conditions = append(s.Conditions, c)
		}
	}
	ready := containersReady(s, d)
	podReady := ready
	podReady.Type = corev1.PodReady
	for _, c := range []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: truth(o.Sandbox.Running)},
		podInitialized(s, d, o), podReady, ready,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, // it would not be here otherwise
	} {
		c.ObservedGeneration = d.Pod.Generation
		c.LastTransitionTime = transition(o, c)
		s.Conditions = append(s.Conditions, c)
	}
}

// ours reports whether the agent is who sets a condition.
func ours(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled:
		return true
	default:
		return false
	}
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// transition is when a condition took the status it has.
func transition(o *observed, c corev1.PodCondition) metav1.Time {
	for _, before := range o.Last.Conditions {
		if before.Type == c.Type && before.Status == c.Status {
			return before.LastTransitionTime
		}
	}
	return metav1.NewTime(o.Now.Truncate(time.Second))
}

func podInitialized(s *corev1.PodStatus, d desired, o *observed) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if s.Phase == corev1.PodSucceeded {
		c.Reason = reasonPodCompleted
		return c
	}
	if !initialized(s, d, o) {
		c.Status, c.Reason = corev1.ConditionFalse, reasonNotInitialized
		c.Message = "containers with incomplete status: " + names(incomplete(s, d))
	}
	return c
}

func containersReady(s *corev1.PodStatus, d desired) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	var unready []string
	for i := range d.Pod.Spec.InitContainers {
		if sidecar(&d.Pod.Spec.InitContainers[i]) && !s.InitContainerStatuses[i].Ready {
			unready = append(unready, d.Pod.Spec.InitContainers[i].Name)
		}
	}
	for i := range s.ContainerStatuses {
		if !s.ContainerStatuses[i].Ready {
			unready = append(unready, s.ContainerStatuses[i].Name)
		}
	}
	switch {
	case s.Phase == corev1.PodSucceeded:
		c.Reason = reasonPodCompleted
	case s.Phase == corev1.PodFailed:
		c.Reason = reasonPodFailed
	case len(unready) > 0:
		c.Reason, c.Message = reasonNotReady, "containers with unready status: "+names(unready)
	default:
		c.Status = corev1.ConditionTrue
	}
	return c
}
