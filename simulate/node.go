package simulate

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// readySince is how long a simulated Pod has been Ready when it first is: longer than any Deployment waits.
const readySince = 24 * time.Hour

// pods is every node's agent: what is bound becomes Ready, what is being deleted goes. A node that is not Ready does neither.
func pods() engine.Controller {
	return engine.Controller{
		Name:    "simulated agents",
		Sources: []engine.Source{engine.Each(engine.Self[*corev1.Pod])},
		Reconcile: func(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
			if pod, ok := state.Get[*corev1.Pod](tx, key); ok && pod.Spec.NodeName != "" && nodeReady(tx, pod.Spec.NodeName) {
				run(tx, pod, now)
			}
			return 0, nil
		},
	}
}

func nodeReady(r state.Reader, name string) bool {
	node, ok := state.Get[*corev1.Node](r, state.Key{Name: name})
	return ok && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func run(tx *state.Txn, pod *corev1.Pod, now time.Time) {
	switch {
	case pod.DeletionTimestamp != nil:
		tx.Delete(pod)
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed, isReady(pod):
	default:
		running := pod.DeepCopy()
		running.Status.Phase = corev1.PodRunning
		since := metav1.NewTime(now.Add(-readySince).Truncate(time.Second))
		for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
			setCondition(&running.Status, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: since})
		}
		tx.SetStatus(running)
	}
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func setCondition(status *corev1.PodStatus, condition corev1.PodCondition) {
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == condition.Type })
	status.Conditions = append(status.Conditions, condition)
}

// images is how a node answers object.PullAnnotation: everything asked for is there at once.
func images() engine.Controller {
	return engine.Controller{
		Name:    "simulated pulls",
		Sources: []engine.Source{engine.Each(engine.Self[*corev1.Node])},
		Reconcile: func(tx *state.Txn, key state.Key, _ time.Time) (time.Duration, error) {
			node, ok := state.Get[*corev1.Node](tx, key)
			if !ok || node.Annotations[object.PullAnnotation] == "" {
				return 0, nil
			}
			pulled := node.DeepCopy()
			for image := range strings.SplitSeq(node.Annotations[object.PullAnnotation], ",") {
				if !hasImage(pulled, image) {
					pulled.Status.Images = append(pulled.Status.Images, corev1.ContainerImage{Names: []string{image}})
				}
			}
			tx.SetStatus(pulled)
			return 0, nil
		},
	}
}

func hasImage(node *corev1.Node, name string) bool {
	return slices.ContainsFunc(node.Status.Images, func(image corev1.ContainerImage) bool { return slices.Contains(image.Names, name) })
}
