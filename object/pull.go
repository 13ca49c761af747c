package object

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// PullAnnotation on a Node lists images, separated by commas, that its agent is to pull ahead of the Pods that need them,
// so that no Pod is stopped before its successor's image is there.
const PullAnnotation = "mainstay.dev/pull"

// PullCondition on a Node says that its agent follows PullAnnotation: True while all is well, False with a message that
// names image and error when a pull fails. The agent lists what it has pulled in status.images. Nobody waits for the
// images of a node without this condition.
const PullCondition = "ImagesPulled"

// WantedImages lists the images in a node's PullAnnotation, sorted.
func WantedImages(node *corev1.Node) []string {
	images := strings.Split(node.Annotations[PullAnnotation], ",")
	slices.Sort(images)
	return slices.DeleteFunc(slices.Compact(images), func(image string) bool { return image == "" })
}

// ReplaceAnnotation on a Pod that the repository declares by itself lists the images, separated by commas, of the Pod that
// is to take its place: its spec has changed in Git, and it is stopped once they are on its node.
const ReplaceAnnotation = "mainstay.dev/replace"

// ReplacementImages lists the images of the Pod that is to take this one's place; false if none is.
func ReplacementImages(pod *corev1.Pod) ([]string, bool) {
	images, replaced := pod.Annotations[ReplaceAnnotation]
	return slices.DeleteFunc(strings.Split(images, ","), func(image string) bool { return image == "" }), replaced
}

// PodImages lists the images that a Pod of this spec may have to pull, sorted, each once.
func PodImages(spec *corev1.PodSpec) []string {
	var images []string
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			if containers[i].ImagePullPolicy != corev1.PullNever {
				images = append(images, containers[i].Image)
			}
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}
