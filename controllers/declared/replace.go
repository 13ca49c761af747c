package declared

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Replacer returns the controller that stops Pods whose spec has changed in Git, once their successors' images are on the
// node: nothing healthy is stopped before.
func Replacer() engine.Controller {
	return engine.Controller{
		Name: "replace",
		Sources: []engine.Source{
			engine.Each(func(pod *corev1.Pod) (state.Key, bool) {
				_, replaced := object.ReplacementImages(pod)
				return state.KeyOf(pod), replaced
			}),
			engine.EachMany(replacedOn),
		},
		Reconcile: replace,
	}
}

// replacedOn names the Pods on a node that wait for images there.
func replacedOn(r state.Reader, node *corev1.Node, add func(state.Key)) {
	for pod := range state.ListBy(r, tables.PodsByNode, node.Name) {
		if _, replaced := object.ReplacementImages(pod); replaced {
			add(state.KeyOf(pod))
		}
	}
}

func replace(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
	pod, ok := state.Get[*corev1.Pod](tx, key)
	if !ok || pod.DeletionTimestamp != nil {
		return 0, nil
	}
	images, replaced := object.ReplacementImages(pod)
	if !replaced {
		return 0, nil
	}
	node, ok := state.Get[*corev1.Node](tx, state.Key{Name: pod.Spec.NodeName})
	if ok && podcontrol.Healthy(pod) && len(podcontrol.Absent(tx, node, images)) > 0 {
		return 0, nil // Prepull asks the node for them; its answer brings us back.
	}
	podcontrol.Delete(tx, pod, now)
	return 0, nil
}
