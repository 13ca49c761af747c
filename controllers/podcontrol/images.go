package podcontrol

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// PullsAhead says whether the node's agent pulls images that no Pod needs yet.
func PullsAhead(node *corev1.Node) bool { return pulls(node) != nil }

// Absent lists those of images that have to be pulled to the node. It is empty for a node whose agent does not pull ahead.
func Absent(r state.Reader, node *corev1.Node, images []string) []string {
	if !PullsAhead(node) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(images), func(image string) bool { return hasImage(node, image) || ranHere(r, node, image) })
}

// Healthy says whether stopping the Pod would take something away.
func Healthy(pod *corev1.Pod) bool {
	_, ready := Ready(pod)
	return ready && Active(pod) && pod.Spec.NodeName != ""
}

func pulls(node *corev1.Node) *corev1.NodeCondition {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == object.PullCondition })
	if i < 0 {
		return nil
	}
	return &node.Status.Conditions[i]
}

// PullError is why the node could not pull what it was asked for, in parentheses; "" if it could.
func PullError(node *corev1.Node) string {
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
