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
