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
			if healthy(pod) {
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
			missing = append(missing, fmt.Sprintf("image %s is not yet on node %s%s", image, name, pullError(node)))
		}
	}
	slices.Sort(missing)
	if n := len(missing) - waitsShown; n > 0 {
		missing = append(missing[:waitsShown], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(missing, "; ")
}

func healthy(pod *corev1.Pod) bool {
	_, ready := podcontrol.Ready(pod)
	return ready && podcontrol.Active(pod) && pod.Spec.NodeName != ""
}

// absent lists the images of the Deployment's template that have to be pulled to the node, sorted. It is empty for a node
// whose agent does not pull ahead.
func absent(r state.Reader, node *corev1.Node, d *appsv1.Deployment) []string {
	if pulls(node) == nil {
		return nil
	}
	var images []string
	spec := &d.Spec.Template.Spec
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if c.ImagePullPolicy != corev1.PullNever && !hasImage(node, c.Image) && !ranHere(r, node, c.Image) {
				images = append(images, c.Image)
			}
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}

func pulls(node *corev1.Node) *corev1.NodeCondition {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == object.PullCondition })
	if i < 0 {
		return nil
	}
	return &node.Status.Conditions[i]
}

func pullError(node *corev1.Node) string {
	if c := pulls(node); c != nil && c.Status == corev1.ConditionFalse {
		return " (" + c.Message + ")"
	}
	return ""
}

func hasImage(node *corev1.Node, image string) bool {
	want := canonical(image)
	for i := range node.Status.Images {
		if slices.ContainsFunc(node.Status.Images[i].Names, func(name string) bool { return canonical(name) == want }) {
			return true
		}
	}
	return false
}

// ranHere says whether a container on the node was started from the image: then it is there, listed or not.
func ranHere(r state.Reader, node *corev1.Node, image string) bool {
	for pod := range state.ListBy(r, tables.PodsByNode, node.Name) {
		if ran(pod, image) {
			return true
		}
	}
	return false
}

func ran(pod *corev1.Pod, image string) bool {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			if statuses[i].ImageID != "" && imageOf(pod, statuses[i].Name) == image {
				return true
			}
		}
	}
	return false
}

// imageOf is the image that the Pod's spec asks for in a container.
func imageOf(pod *corev1.Pod, container string) string {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == container {
				return containers[i].Image
			}
		}
	}
	return ""
}

// canonical drops from a reference what Docker implies, so that two names of one image compare equal.
func canonical(image string) string {
	for _, implied := range []string{"index.docker.io/", "docker.io/", "library/"} {
		image = strings.TrimPrefix(image, implied)
	}
	if !strings.Contains(image[strings.LastIndex(image, "/")+1:], ":") && !strings.Contains(image, "@") {
		image += ":latest"
	}
	return image
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
