package revision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// workload is one that the repository declares and that is not as it should be.
type workload struct {
	why string // names it, and the Pod it waits for if worst does not
	// worst names the Pod it waits for, "" for none; nil is none. It looks at every Pod, so only the one that is told of is asked.
	worst  func() string
	end    string // of the sentence
	failed bool   // it missed its deadline
}

func (w *workload) say() string {
	said := w.why
	if w.worst != nil {
		said = join(said, w.worst())
	}
	return said + w.end
}

// unfinished lists the declared workloads that are not up to date and available, in a fixed order.
func unfinished(r state.Reader) []workload {
	var open []workload
	for source := range state.List[*object.Source](r, "") {
		key := state.Key{Namespace: source.Namespace, Name: source.Spec.Name}
		var w *workload
		switch source.Spec.Kind {
		case "Deployment":
			w = deployment(r, key)
		case "ReplicaSet":
			w = replicaSet(r, key)
		case "Pod":
			w = bare(r, key)
		}
		if w != nil {
			open = append(open, *w)
		}
	}
	return open
}

// deployment is nil for one that is finished. One that is paused is as the repository wants it.
func deployment(r state.Reader, key state.Key) *workload {
	d, ok := state.Get[*appsv1.Deployment](r, key)
	if !ok {
		return &workload{why: fmt.Sprintf("Deployment %s is being made anew", key)}
	}
	s, wanted := d.Status, count(d.Spec.Replicas)
	switch {
	case s.ObservedGeneration < d.Generation:
		return &workload{why: fmt.Sprintf("Deployment %s: not looked at yet", key)}
	case d.Spec.Paused:
		return nil
	case s.UpdatedReplicas == wanted && s.Replicas == wanted && s.AvailableReplicas == wanted:
		return nil
	}
	w := &workload{
		why:   fmt.Sprintf("Deployment %s: %s", key, shortfall(d, wanted)),
		worst: func() string { return worst(r, state.ListBy(r, tables.ReplicaSetsByOwner, string(d.UID))) },
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" {
			w.end, w.failed = fmt.Sprintf(" (no progress for %s)", duration.HumanDuration(time.Duration(*d.Spec.ProgressDeadlineSeconds)*time.Second)), true
		}
	}
	return w
}

// shortfall says in numbers what a Deployment lacks.
func shortfall(d *appsv1.Deployment, wanted int32) string {
	s := d.Status
	old := s.Replicas - s.UpdatedReplicas
	switch {
	case s.UpdatedReplicas < wanted:
		return fmt.Sprintf("%d of %d Pods updated", s.UpdatedReplicas, wanted)
	case old > 0 && s.AvailableReplicas >= wanted:
		return stillRun(old, "old Pod")
	case old > 0:
		return fmt.Sprintf("%d of %d Pods updated, %d available, %s", s.UpdatedReplicas, wanted, s.AvailableReplicas, stillRun(old, "old one"))
	}
	return fmt.Sprintf("%d of %d updated Pods available", s.AvailableReplicas, wanted)
}

func stillRun(n int32, what string) string {
	if n == 1 {
		return "1 " + what + " still runs"
	}
	return fmt.Sprintf("%d %ss still run", n, what)
}

func replicaSet(r state.Reader, key state.Key) *workload {
	rs, ok := state.Get[*appsv1.ReplicaSet](r, key)
	if !ok {
		return &workload{why: fmt.Sprintf("ReplicaSet %s is being made anew", key)}
	}
	wanted := count(rs.Spec.Replicas)
	if rs.Status.ObservedGeneration >= rs.Generation && rs.Status.Replicas == wanted && rs.Status.AvailableReplicas == wanted {
		return nil
	}
	return &workload{
		why:   fmt.Sprintf("ReplicaSet %s: %d of %d Pods available", key, rs.Status.AvailableReplicas, wanted),
		worst: func() string { return worst(r, slices.Values([]*appsv1.ReplicaSet{rs})) },
	}
}

// bare is a Pod that the repository declares by itself.
func bare(r state.Reader, key state.Key) *workload {
	pod, ok := state.Get[*corev1.Pod](r, key)
	switch {
	case !ok:
		return &workload{why: fmt.Sprintf("Pod %s is being made anew", key)}
	case pod.DeletionTimestamp != nil:
		return &workload{why: fmt.Sprintf("Pod %s: the one before it is stopping", key)}
	case replaced(pod):
		return &workload{why: fmt.Sprintf("Pod %s: %s", key, imagesMissing(r, pod))}
	case pod.Status.Phase == corev1.PodSucceeded || isReady(pod):
		return nil
	case pod.Status.Phase == corev1.PodFailed:
		return &workload{why: fmt.Sprintf("Pod %s failed: %s", key, orElse(stuck(pod), pod.Status.Message)), failed: true}
	}
	return &workload{why: fmt.Sprintf("Pod %s: %s", key, orElse(reason(r, pod), "not ready yet"))}
}

func replaced(pod *corev1.Pod) bool {
	_, replaced := object.ReplacementImages(pod)
	return replaced
}

// imagesMissing says what a Pod of the former revision waits for before it goes.
func imagesMissing(r state.Reader, pod *corev1.Pod) string {
	images, _ := object.ReplacementImages(pod)
	node, ok := state.Get[*corev1.Node](r, state.Key{Name: pod.Spec.NodeName})
	if !ok {
		return "the one before it is about to stop"
	}
	missing := podcontrol.Absent(r, node, images)
	if len(missing) == 0 {
		return "the one before it is about to stop"
	}
	return fmt.Sprintf("the one before it runs on, for image %s is not yet on node %s%s", strings.Join(missing, ", "), node.Name, podcontrol.PullError(node))
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func count(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// lacking says whether the Pod belongs to a controller and is neither ready nor on its way out.
func lacking(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed &&
		!isReady(pod) && metav1.GetControllerOfNoCopy(pod) != nil
}
