package revision

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// worst names one Pod of the ReplicaSets that keeps them from being available, and why: one that cannot go on before one
// that is on its way, of the newest ReplicaSet first. It is "" when there is none.
func worst(r state.Reader, sets iter.Seq[*appsv1.ReplicaSet]) string {
	newestFirst := slices.SortedStableFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, rs := range newestFirst {
		if pod, ok := worstOf(r, rs); ok {
			return fmt.Sprintf("Pod %s: %s", pod.Name, reason(r, pod))
		}
	}
	return ""
}

// worstOf is the first Pod of a ReplicaSet that cannot go on, or if none is, the first that there is anything to say of.
func worstOf(r state.Reader, rs *appsv1.ReplicaSet) (found *corev1.Pod, ok bool) {
	for pod := range state.ListBy(r, tables.PodsByOwner, string(rs.UID)) {
		switch {
		case !lacking(pod):
		case stuck(pod) != "":
			return pod, true
		case found == nil && reason(r, pod) != "":
			found = pod
		}
	}
	return found, found != nil
}

// reason says why a Pod is not ready: that it is stuck, or that it runs and with what words its probe fails. It is "" for one
// that has only not been started yet.
func reason(r state.Reader, pod *corev1.Pod) string {
	why := stuck(pod)
	if slices.ContainsFunc(pod.Status.ContainerStatuses, runsUnready) {
		return join(orElse(why, "running, not ready"), probeWords(r, pod))
	}
	if why != "" && slices.ContainsFunc(pod.Status.ContainerStatuses, hasRestarted) {
		return join(why, probeWords(r, pod)) // a failed probe may be why
	}
	return why
}

func runsUnready(c corev1.ContainerStatus) bool  { return c.State.Running != nil && !c.Ready }
func hasRestarted(c corev1.ContainerStatus) bool { return c.RestartCount > 0 && !c.Ready }

// unhealthy is the reason of the Events by which an agent repeats what a failed probe said.
const unhealthy = "Unhealthy"

// probeWords is what the Pod's probe said last, "" if none has failed.
func probeWords(r state.Reader, pod *corev1.Pod) string {
	var last *corev1.Event
	for e := range state.ListBy(r, tables.EventsByObject, string(pod.UID)) {
		if e.Reason == unhealthy && (last == nil || last.LastTimestamp.Before(&e.LastTimestamp)) {
			last = e
		}
	}
	if last == nil {
		return ""
	}
	return strings.Join(strings.Fields(last.Message), " ")
}

// stuck says why a Pod cannot go on by itself; "" if nothing says that it cannot.
func stuck(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return orElse(join(c.Reason, c.Message), "not scheduled")
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if why := trouble(&statuses[i]); why != "" {
				return why
			}
		}
	}
	return ""
}

// trouble is what keeps a container from running, "" if it runs or has only not been started yet.
func trouble(c *corev1.ContainerStatus) string {
	switch {
	case c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating" && c.State.Waiting.Reason != "PodInitializing":
		return join(c.State.Waiting.Reason, c.State.Waiting.Message)
	case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
		t := c.State.Terminated
		return join(orElse(t.Reason, "Error"), orElse(t.Message, fmt.Sprintf("container %s exited with code %d", c.Name, t.ExitCode)))
	case c.State.Running != nil && !c.Ready && c.RestartCount > 0:
		return fmt.Sprintf("container %s has restarted %d times and is not ready", c.Name, c.RestartCount)
	}
	return ""
}

func join(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + message
}
