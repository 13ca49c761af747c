package garbage

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

var orphansKey = state.Key{Name: "orphans"}

// orphans deletes Pods that belong to nothing: no controller has them, the repository does not declare them. A rebuilt
// cluster takes in every Pod that its nodes run as such a Pod, so nothing is one of these for certain until a revision
// is in force and every workload of it has had the time to claim what is its own.
func orphans() engine.Controller {
	return engine.Controller{
		Name: "garbage-orphans",
		Sources: []engine.Source{
			engine.Each(engine.To[*object.Cluster](orphansKey)),
			engine.Each(engine.To[*appsv1.Deployment](orphansKey)),
			engine.Each(engine.To[*appsv1.ReplicaSet](orphansKey)),
			engine.Each(engine.To[*object.Source](orphansKey)),
			engine.Each(func(pod *corev1.Pod) (state.Key, bool) {
				return orphansKey, metav1.GetControllerOfNoCopy(pod) == nil && pod.DeletionTimestamp == nil
			}),
		},
		Reconcile: deleteOrphans,
	}
}

func deleteOrphans(tx *state.Txn, _ state.Key, now time.Time) (time.Duration, error) {
	if !activated(tx) {
		return 0, nil
	}
	var unwanted []*corev1.Pod
	for pod := range state.ListBy(tx, tables.PodsByOwner, "") {
		if pod.DeletionTimestamp == nil && !declared(tx, pod) {
			unwanted = append(unwanted, pod)
		}
	}
	if len(unwanted) == 0 || !allObserved(tx) {
		return 0, nil
	}
	for _, pod := range unwanted {
		if tx.Writes() >= burst {
			return engine.Soon, nil
		}
		if !selected(tx, pod) && !replaces(tx, pod) {
			podcontrol.Delete(tx, pod, now)
		}
	}
	return 0, nil
}

func declared(r state.Reader, pod *corev1.Pod) bool {
	_, ok := state.Get[*object.Source](r, state.Key{Namespace: pod.Namespace, Name: object.SourceName(object.KindOf(pod), pod.Name)})
	return ok
}

// allObserved says whether every workload's controller has seen its newest form.
func allObserved(r state.Reader) bool {
	for d := range state.List[*appsv1.Deployment](r, "") {
		if d.Status.ObservedGeneration != d.Generation {
			return false
		}
	}
	for rs := range state.List[*appsv1.ReplicaSet](r, "") {
		if rs.Status.ObservedGeneration != rs.Generation {
			return false
		}
	}
	return true
}

// selected says whether a ReplicaSet is going to adopt the Pod.
func selected(r state.Reader, pod *corev1.Pod) bool {
	if podcontrol.Finished(pod) {
		return false
	}
	for rs := range state.List[*appsv1.ReplicaSet](r, pod.Namespace) {
		if podcontrol.Selects(rs.Spec.Selector, pod.Labels) {
			return true
		}
	}
	return false
}

// replaces says whether the Pod still does the work of a Deployment whose own Pods are not all available yet: a cluster
// that was lost in the middle of a rollout finds Pods of the template before.
func replaces(r state.Reader, pod *corev1.Pod) bool {
	if podcontrol.Finished(pod) {
		return false
	}
	for d := range state.List[*appsv1.Deployment](r, pod.Namespace) {
		if podcontrol.Selects(d.Spec.Selector, pod.Labels) && d.Status.AvailableReplicas < wanted(d) {
			return true
		}
	}
	return false
}

func wanted(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}
