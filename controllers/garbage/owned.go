package garbage

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const workers = 8

// ownedPods deletes Pods whose owners are gone, and ends those whose node is gone before it could say that they have stopped.
func ownedPods() engine.Controller {
	return engine.Controller{
		Name:    "garbage-pods",
		Workers: workers,
		Sources: []engine.Source{
			engine.EachMany(func(r state.Reader, pod *corev1.Pod, add func(state.Key)) {
				if ownerless(r, pod) || nodeless(r, pod) {
					add(state.KeyOf(pod))
				}
			}),
			engine.OnDelete(func(r state.Reader, rs *appsv1.ReplicaSet, add func(state.Key)) {
				for pod := range state.ListBy(r, tables.PodsByOwner, string(rs.UID)) {
					add(state.KeyOf(pod))
				}
			}),
			engine.OnDelete(func(r state.Reader, node *corev1.Node, add func(state.Key)) {
				for pod := range state.ListBy(r, tables.PodsByNode, node.Name) {
					add(state.KeyOf(pod))
				}
			}),
		},
		Reconcile: func(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
			pod, ok := state.Get[*corev1.Pod](tx, key)
			if ok && (ownerless(tx, pod) || nodeless(tx, pod)) {
				podcontrol.Delete(tx, pod, now)
			}
			return 0, nil
		},
	}
}

// nodeless says whether a Pod waits to be stopped by a node that no longer exists.
func nodeless(r state.Reader, pod *corev1.Pod) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	_, ok := state.Get[*corev1.Node](r, state.Key{Name: pod.Spec.NodeName})
	return !ok
}

// ownedReplicaSets deletes ReplicaSets whose Deployment is gone.
func ownedReplicaSets() engine.Controller {
	return engine.Controller{
		Name:    "garbage-replicasets",
		Workers: workers,
		Sources: []engine.Source{
			engine.EachMany(func(r state.Reader, rs *appsv1.ReplicaSet, add func(state.Key)) {
				if ownerless(r, rs) {
					add(state.KeyOf(rs))
				}
			}),
			engine.OnDelete(func(r state.Reader, d *appsv1.Deployment, add func(state.Key)) {
				for rs := range state.ListBy(r, tables.ReplicaSetsByOwner, string(d.UID)) {
					add(state.KeyOf(rs))
				}
			}),
		},
		Reconcile: func(tx *state.Txn, key state.Key, _ time.Time) (time.Duration, error) {
			if rs, ok := state.Get[*appsv1.ReplicaSet](tx, key); ok && ownerless(tx, rs) {
				tx.Delete(rs)
			}
			return 0, nil
		},
	}
}

// ownerless says whether an object has owners and none of them exists any more. An owner of a kind that is not known here
// is taken to exist.
func ownerless(r state.Reader, o object.Object) bool {
	refs := o.GetOwnerReferences()
	for _, ref := range refs {
		if exists(r, o.GetNamespace(), ref) {
			return false
		}
	}
	return len(refs) > 0
}

func exists(r state.Reader, namespace string, ref metav1.OwnerReference) bool {
	kind, ok := object.ByGVK(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	if !ok {
		return true
	}
	if !kind.Namespaced {
		namespace = ""
	}
	owner, ok := state.GetKind(r, kind, state.Key{Namespace: namespace, Name: ref.Name})
	return ok && owner.GetUID() == ref.UID
}
