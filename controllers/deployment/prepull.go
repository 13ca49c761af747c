package deployment

import (
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Prepull returns the controller that asks nodes to pull the images of what replaces the Pods they run: Deployments' and bare ones'.
func Prepull() engine.Controller {
	return engine.Controller{
		Name:    "prepull",
		Workers: 1,
		Sources: []engine.Source{
			engine.Each(engine.Self[*corev1.Node]),
			engine.EachMany(nodesOf),
			engine.Each(nodeOfReplaced),
		},
		Reconcile: askForImages,
	}
}

// nodesOf names the nodes that run Pods of a Deployment.
func nodesOf(r state.Reader, d *appsv1.Deployment, add func(state.Key)) {
	for rs := range state.ListBy(r, tables.ReplicaSetsByOwner, string(d.UID)) {
		for pod := range state.ListBy(r, tables.PodsByOwner, string(rs.UID)) {
			if pod.Spec.NodeName != "" {
				add(state.Key{Name: pod.Spec.NodeName})
			}
		}
	}
}

// nodeOfReplaced is the node of a bare Pod that goes once its successor's images are there.
func nodeOfReplaced(pod *corev1.Pod) (state.Key, bool) {
	_, replaced := object.ReplacementImages(pod)
	return state.Key{Name: pod.Spec.NodeName}, replaced && pod.Spec.NodeName != ""
}

func askForImages(tx *state.Txn, key state.Key, _ time.Time) (time.Duration, error) {
	node, ok := state.Get[*corev1.Node](tx, key)
	if !ok || !podcontrol.PullsAhead(node) {
		return 0, nil
	}
	wanted := map[string]bool{}
	for pod := range state.ListBy(tx, tables.PodsByNode, node.Name) {
		if images, replaced := object.ReplacementImages(pod); replaced && podcontrol.Healthy(pod) {
			for _, image := range podcontrol.Absent(tx, node, images) {
				wanted[image] = true
			}
		}
		rs, d, ok := ownersOf(tx, pod)
		if !ok || !podcontrol.Healthy(pod) || d.Spec.Paused || sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			continue
		}
		for _, image := range absent(tx, node, d) {
			wanted[image] = true
		}
	}
	asked := node.DeepCopy()
	if asked.Annotations == nil {
		asked.Annotations = map[string]string{}
	}
	asked.Annotations[object.PullAnnotation] = strings.Join(slices.Sorted(maps.Keys(wanted)), ",")
	if len(wanted) == 0 {
		delete(asked.Annotations, object.PullAnnotation)
	}
	tx.Update(asked)
	return 0, nil
}
