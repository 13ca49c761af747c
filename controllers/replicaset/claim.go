package replicaset

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// claim lets go of Pods that the selector no longer selects and takes in those without a controller that it does. It returns
// the active Pods that rs owns then.
func claim(tx *state.Txn, rs *appsv1.ReplicaSet) []*corev1.Pod {
	before, active := tx.Writes(), owned(tx, rs, podcontrol.Active)
	for _, pod := range active {
		if !podcontrol.Selects(rs.Spec.Selector, pod.Labels) {
			release(tx, rs, pod)
		}
	}
	for _, pod := range orphans(tx, rs) {
		adopted := pod.DeepCopy()
		gvk := object.KindOf(rs).GroupVersionKind
		adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(rs, gvk))
		tx.Update(adopted)
	}
	if tx.Writes() > before {
		return owned(tx, rs, podcontrol.Active)
	}
	return active
}

func release(tx *state.Txn, rs *appsv1.ReplicaSet, pod *corev1.Pod) {
	released := pod.DeepCopy()
	released.OwnerReferences = slices.DeleteFunc(released.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.UID == rs.UID
	})
	tx.Update(released)
}

// orphans lists the Pods to adopt: active, selected, without a controller. A Pod that the repository declares by itself
// is not one: it would be deleted as surplus here and created again from the repository, for ever.
func orphans(r state.Reader, rs *appsv1.ReplicaSet) []*corev1.Pod {
	where := rs.Namespace
	if hash := rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey]; hash != "" {
		where += "/" + hash
	}
	var found []*corev1.Pod
	for pod := range state.ListBy(r, tables.OrphanPods, where) {
		if podcontrol.Active(pod) && podcontrol.Selects(rs.Spec.Selector, pod.Labels) && !declared(r, pod) {
			found = append(found, pod)
		}
	}
	return found
}

func declared(r state.Reader, pod *corev1.Pod) bool {
	_, ok := state.Get[*object.Source](r, state.Key{Namespace: pod.Namespace, Name: object.SourceName(object.KindOf(pod), pod.Name)})
	return ok
}
