package deployment

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// waitsShown bounds how many images a message names.
const waitsShown = 3

// waitingFor names the Deployments that may be waiting for images on a node.
func waitingFor(r state.Reader, node *corev1.Node, add func(state.Key)) {
	if node.Annotations[object.PullAnnotation] == "" {
		return
	}
	for pod := range state.ListBy(r, tables.PodsByNode, node.Name) {
		if _, d, ok := ownersOf(r, pod); ok {
			add(state.KeyOf(d))
		}
	}
}

// missingImages says which images of the template are missing on which nodes that run healthy old Pods; "" if none is.
func (r *rollout) missingImages() string {
	nodes := map[string]bool{}
	for _, rs := range r.old() {
		for pod := range state.ListBy(r.tx, tables.PodsByOwner, string(rs.UID)) {
			if podcontrol.Healthy(pod) {
				nodes[pod.Spec.NodeName] = true
			}
		}
	}
	var missing []string
	for name := range nodes {
		node, ok := state.Get[*corev1.Node](r.tx, state.Key{Name: name})
		if !ok {
			continue
		}
		for _, image := range absent(r.tx, node, r.d) {
			missing = append(missing, fmt.Sprintf("image %s is not yet on node %s%s", image, name, podcontrol.PullError(node)))
		}
	}
	slices.Sort(missing)
	if n := len(missing) - waitsShown; n > 0 {
		missing = append(missing[:waitsShown], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(missing, "; ")
}

// absent lists the images of the Deployment's template that have to be pulled to the node, sorted.
func absent(r state.Reader, node *corev1.Node, d *appsv1.Deployment) []string {
	return podcontrol.Absent(r, node, object.PodImages(&d.Spec.Template.Spec))
}

// ownersOf is the ReplicaSet and the Deployment that a Pod belongs to.
func ownersOf(r state.Reader, pod *corev1.Pod) (*appsv1.ReplicaSet, *appsv1.Deployment, bool) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return nil, nil, false
	}
	rs, ok := state.Get[*appsv1.ReplicaSet](r, state.Key{Namespace: pod.Namespace, Name: ref.Name})
	if !ok || rs.UID != ref.UID {
		return nil, nil, false
	}
	ref = metav1.GetControllerOfNoCopy(rs)
	if ref == nil {
		return nil, nil, false
	}
	d, ok := state.Get[*appsv1.Deployment](r, state.Key{Namespace: pod.Namespace, Name: ref.Name})
	return rs, d, ok && d.UID == ref.UID
}
