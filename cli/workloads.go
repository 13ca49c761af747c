package cli

import (
	"cmp"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/resource"
)

// ended reports whether the Pod needs nothing of its node any more.
func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func nodeSummary(nodes []*corev1.Node, pods []*corev1.Pod) NodeSummary {
	s := NodeSummary{Total: len(nodes)}
	for _, n := range nodes {
		why := nodeIssue(n)
		if why != "" {
			s.NotReady = append(s.NotReady, NodeIssue{n.Name, why})
		}
		if nodeReady(n) {
			s.Ready++
		}
		s.CPU.Allocatable += n.Status.Allocatable.Cpu().MilliValue()
		s.Memory.Allocatable += n.Status.Allocatable.Memory().Value()
		s.Pods.Allocatable += n.Status.Allocatable.Pods().Value()
	}
	for _, p := range pods {
		if p.Spec.NodeName == "" || ended(p) {
			continue
		}
		requests := resource.PodRequests(p, resource.PodResourcesOptions{})
		s.CPU.Requested += requests.Cpu().MilliValue()
		s.Memory.Requested += requests.Memory().Value()
		s.Pods.Requested++
	}
	return s
}

func nodeReady(n *corev1.Node) bool {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status == corev1.ConditionTrue
		}
	}
	return false
}

// conditionEngine is the condition by which an agent says whether its container engine answers.
const conditionEngine = "EngineResponsive"

// nodeIssue says why the node cannot be worked with as usual, "" if it can.
func nodeIssue(n *corev1.Node) string {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status != corev1.ConditionTrue {
			return oneLine(cmp.Or(cond.Message, cond.Reason, "not ready"))
		}
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type == conditionEngine && cond.Status != corev1.ConditionTrue {
			return "its container engine does not answer: " + oneLine(cmp.Or(cond.Message, cond.Reason))
		}
	}
	switch {
	case !nodeReady(n):
		return "has not reported yet"
	case n.Spec.Unschedulable:
		return "takes no new Pods (unschedulable)"
	}
	return ""
}

func podSummary(pods []*corev1.Pod) PodSummary {
	s := PodSummary{Phases: map[string]int{}}
	for _, p := range pods {
		s.Phases[podPhase(p)]++
		if p.DeletionTimestamp != nil {
			continue
		}
		s.Total++
		if podReady(p) {
			s.Ready++
		}
	}
	return s
}

func podPhase(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "Terminating"
	}
	return string(cmp.Or(p.Status.Phase, corev1.PodPending))
}

// notReady lists the workloads that nothing else owns and of which not everything is ready, by namespace, kind and name. A Pod
// that is being removed is not meant to be ready.
func (f *facts) notReady() []Workload {
	owned := podsByTop(f.pods, f.replicaSets)
	all := []Workload{}
	for _, d := range f.deployments {
		w := Workload{Kind: "Deployment", Namespace: d.Namespace, Name: d.Name, Ready: d.Status.ReadyReplicas,
			Updated: &d.Status.UpdatedReplicas, Desired: replicas(d.Spec.Replicas)}
		if w.Ready < w.Desired || d.Status.UpdatedReplicas < w.Desired || d.Status.ObservedGeneration < d.Generation {
			all = append(all, f.explain(w, owned[d.UID], deploymentTrouble(d)))
		}
	}
	for _, rs := range f.replicaSets {
		if metav1.GetControllerOf(rs) != nil {
			continue
		}
		w := Workload{Kind: "ReplicaSet", Namespace: rs.Namespace, Name: rs.Name, Ready: rs.Status.ReadyReplicas, Desired: replicas(rs.Spec.Replicas)}
		if w.Ready < w.Desired {
			all = append(all, f.explain(w, owned[rs.UID], ""))
		}
	}
	for _, p := range f.pods {
		if metav1.GetControllerOf(p) == nil && p.DeletionTimestamp == nil && !podReady(p) && p.Status.Phase != corev1.PodSucceeded {
			w := Workload{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, Desired: 1}
			all = append(all, f.explain(w, []*corev1.Pod{p}, ""))
		}
	}
	slices.SortFunc(all, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// podsByTop finds the Pods of each Deployment and of each ReplicaSet.
func podsByTop(pods []*corev1.Pod, sets []*appsv1.ReplicaSet) map[types.UID][]*corev1.Pod {
	deploymentOf := map[types.UID]types.UID{}
	for _, rs := range sets {
		if owner := metav1.GetControllerOf(rs); owner != nil {
			deploymentOf[rs.UID] = owner.UID
		}
	}
	found := map[types.UID][]*corev1.Pod{}
	for _, p := range pods {
		if owner := metav1.GetControllerOf(p); owner != nil {
			found[owner.UID] = append(found[owner.UID], p)
			if top, ok := deploymentOf[owner.UID]; ok {
				found[top] = append(found[top], p)
			}
		}
	}
	return found
}

// explain names the reason of the Pod that is worst off, else what the workload itself says.
func (f *facts) explain(w Workload, pods []*corev1.Pod, own string) Workload {
	w.Reason = own
	worst, about := 0, (*corev1.Pod)(nil)
	for _, p := range pods {
		if why, weight := podTrouble(p); weight > worst {
			worst, w.Reason, w.Pod, about = weight, why, p.Name, p
		}
	}
	if worst == weightUnready {
		if said := f.probeWords(about); said != "" {
			w.Reason += ": " + said
		}
	}
	if w.Reason == "" {
		w.Reason = "waiting"
	}
	return w
}

func deploymentTrouble(d *appsv1.Deployment) string {
	for _, cond := range d.Status.Conditions {
		if cond.Type == appsv1.DeploymentProgressing && cond.Status == corev1.ConditionFalse {
			return oneLine(cond.Message)
		}
	}
	if d.Spec.Paused {
		return "its roll-out is paused"
	}
	return ""
}

// How bad it is, so that the most telling Pod explains a workload.
const (
	weightStarting = iota + 1
	weightUnready
	weightPending
	weightBroken
)

// podTrouble says why the Pod is not ready and how bad that is, 0 if nothing is wrong.
func podTrouble(p *corev1.Pod) (string, int) {
	if podReady(p) || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded {
		return "", 0
	}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			return oneLine(cmp.Or(cond.Message, cond.Reason)), weightPending
		}
	}
	if p.Status.Phase == corev1.PodFailed {
		return oneLine(cmp.Or(p.Status.Message, p.Status.Reason, "failed")), weightBroken
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if why, weight := containerTrouble(c); weight > 0 {
			return why, weight
		}
	}
	if p.Status.Phase == corev1.PodRunning {
		return "running, not ready", weightUnready
	}
	return "starting", weightStarting
}

func containerTrouble(c corev1.ContainerStatus) (string, int) {
	switch {
	case c.State.Waiting != nil && isRoutine(c.State.Waiting.Reason):
		return "", 0
	case c.State.Waiting != nil:
		why := c.State.Waiting.Reason
		if c.State.Waiting.Message != "" {
			why += ": " + c.State.Waiting.Message
		}
		if last := c.LastTerminationState.Terminated; last != nil {
			why += fmt.Sprintf(" (last exit code %d, %s)", last.ExitCode, plural(int(c.RestartCount), "restart"))
		}
		return oneLine(why), weightBroken
	case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
		return fmt.Sprintf("container %s ended with exit code %d (%s)", c.Name, c.State.Terminated.ExitCode, c.State.Terminated.Reason), weightBroken
	}
	return "", 0
}

// isRoutine reports whether every container waits for this reason for a while.
func isRoutine(reason string) bool {
	return reason == "" || reason == "ContainerCreating" || reason == "PodInitializing"
}
