package declared

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// P6: a bare Pod goes when its successor's image is on its node, or when nobody would miss it.
func TestAReplacedPodGoesWhenItsSuccessorCanStart(t *testing.T) {
	ahead := []corev1.NodeCondition{{Type: object.PullCondition, Status: corev1.ConditionTrue}}
	ready := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	there := []corev1.ContainerImage{{Names: []string{"new:1"}}}
	for name, tc := range map[string]struct {
		marked bool
		node   corev1.NodeStatus
		pod    []corev1.PodCondition
		goes   bool
	}{
		"its image is not there":             {marked: true, node: corev1.NodeStatus{Conditions: ahead}, pod: ready, goes: false},
		"its image is there":                 {marked: true, node: corev1.NodeStatus{Conditions: ahead, Images: there}, pod: ready, goes: true},
		"the node cannot pull ahead":         {marked: true, pod: ready, goes: true},
		"not ready, so nothing healthy goes": {marked: true, node: corev1.NodeStatus{Conditions: ahead}, goes: true},
		"nothing replaces it":                {node: corev1.NodeStatus{Conditions: ahead, Images: there}, pod: ready, goes: false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
				Spec:       corev1.PodSpec{NodeName: "n1"},
				Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: tc.pod},
			}
			if tc.marked {
				pod.Annotations = map[string]string{object.ReplaceAnnotation: "new:1"}
			}
			s := statetest.New(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: tc.node}, pod)
			statetest.Update(t, s, func(tx *state.Txn) {
				if _, err := replace(tx, state.KeyOf(pod), time.Unix(1000, 0)); err != nil {
					t.Error(err)
				}
			})
			after, ok := state.Get[*corev1.Pod](s.View(), state.KeyOf(pod))
			if goes := !ok || after.DeletionTimestamp != nil; goes != tc.goes {
				t.Errorf("goes = %v, want %v", goes, tc.goes)
			}
		})
	}
}
