package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeLost is the reason in the status of a Pod whose node was given up on.
const nodeLost = "NodeLost"

func podCells(p *corev1.Pod) []any {
	s := summarize(p)
	ip := p.Status.PodIP
	if ip == "" && len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return []any{p.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.status, s.restarts.String(), age(p.CreationTimestamp),
		orNone(ip), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), readinessGates(p)}
}

// summary is what the columns of a Pod tell of all its containers together.
type summary struct {
	status       string
	ready, total int // containers, sidecars among them
	restarts     restarts
	sidecars     restarts // those of sidecars alone, as far as init containers have been looked at
}

// restarts counts them and knows the end of the last run before one.
type restarts struct {
	count int32
	last  metav1.Time
}

func (r *restarts) add(c *corev1.ContainerStatus) {
	r.count += c.RestartCount
	if t := c.LastTerminationState.Terminated; t != nil && r.last.Before(&t.FinishedAt) {
		r.last = t.FinishedAt
	}
}

func (r restarts) String() string {
	if r.count != 0 && !r.last.IsZero() {
		return fmt.Sprintf("%d (%s ago)", r.count, age(r.last))
	}
	return strconv.Itoa(int(r.count))
}

// summarize finds the one word for a Pod as kubectl does: the first trouble of an init container, else that of the first
// app container in trouble, else the phase.
func summarize(p *corev1.Pod) summary {
	s := summary{status: cmp.Or(p.Status.Reason, string(p.Status.Phase)), total: len(p.Spec.Containers)}
	if c := condition(p, corev1.PodScheduled); c.Reason == corev1.PodReasonSchedulingGated {
		s.status = c.Reason
	}
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
			s.total++
		}
	}
	if s.lookAtInit(p, sidecars) || condition(p, corev1.PodInitialized).Status == corev1.ConditionTrue {
		s.restarts = s.sidecars
		s.lookAtContainers(p)
	}
	if p.DeletionTimestamp != nil && p.Status.Reason == nodeLost {
		s.status = "Unknown"
	} else if p.DeletionTimestamp != nil && !ended(p) {
		s.status = "Terminating"
	}
	return s
}

// lookAtInit reports whether all init containers are done; if not, it names the one that is not.
func (s *summary) lookAtInit(p *corev1.Pod, sidecars map[string]bool) bool {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		s.restarts.add(c)
		if sidecars[c.Name] {
			s.sidecars.add(c)
		}
		exit, running := c.State.Terminated, sidecars[c.Name] && c.Started != nil && *c.Started
		switch waiting := c.State.Waiting; {
		case exit != nil && exit.ExitCode == 0:
			continue
		case running && c.Ready:
			s.ready++
			continue
		case running:
			continue
		case exit != nil:
			s.status = "Init:" + exitReason(exit)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.status = "Init:" + waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return false
	}
	return true
}

func (s *summary) lookAtContainers(p *corev1.Pod) {
	running, failure := false, ""
	for _, c := range slices.Backward(p.Status.ContainerStatuses) { // the first one in trouble has the last word
		s.restarts.add(&c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = exitReason(c.State.Terminated)
			if c.State.Terminated.ExitCode != 0 {
				failure = s.status
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.status != "Completed" { // of one container, while others may run or have failed
		return
	}
	switch {
	case running && condition(p, corev1.PodReady).Status == corev1.ConditionTrue:
		s.status = string(corev1.PodRunning)
	case failure != "":
		s.status = failure
	case running:
		s.status = "NotReady"
	}
}

func exitReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func readinessGates(p *corev1.Pod) string {
	met := 0
	for _, gate := range p.Spec.ReadinessGates {
		if condition(p, gate.ConditionType).Status == corev1.ConditionTrue {
			met++
		}
	}
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	return fmt.Sprintf("%d/%d", met, len(p.Spec.ReadinessGates))
}

// condition is the zero value if the Pod has none of the type.
func condition(p *corev1.Pod, of corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == of {
			return c
		}
	}
	return corev1.PodCondition{}
}

// ended reports whether no container of the Pod will ever run again.
func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}
