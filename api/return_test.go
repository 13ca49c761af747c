package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// givenUp makes a registered node one that nothing was heard of, with its Pods out of service.
func (s *server) givenUp(t *testing.T, name string) {
	t.Helper()
	statetest.Update(t, s.store, func(tx *state.Txn) {
		node, _ := state.Get[*corev1.Node](tx, state.Key{Name: name})
		node = node.DeepCopy()
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: object.ReasonNodeSilent}}
		tx.SetStatus(node)
		for pod := range state.List[*corev1.Pod](tx, "") {
			pod = pod.DeepCopy()
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "NodeNotReady"}}
			tx.SetStatus(pod)
		}
	})
}

func readyOn(p corev1.Pod) corev1.Pod {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return p
}

func (s *server) readiness(name string) corev1.PodCondition {
	pod, ok := state.Get[*corev1.Pod](s.store.View(), state.Key{Namespace: "a", Name: name})
	if !ok || len(pod.Status.Conditions) == 0 {
		return corev1.PodCondition{}
	}
	return pod.Status.Conditions[len(pod.Status.Conditions)-1]
}

// A node that was given up is heard only once it has registered anew, and what it says then of its Pods counts at once.
func TestANodeThatReturnsKeepsItsPods(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""))
	agent := s.agent("n1")
	here := readyOn(ran("web", "n1", "u1", "10.244.0.2"))
	if _, err := agent.Register(t.Context(), registration("n1", here)); err != nil {
		t.Fatal(err)
	}
	s.givenUp(t, "n1")
	have := map[types.UID]string{"u1": "", "replaced": "7"}
	if _, err := agent.Pods(t.Context(), link.PodsRequest{Node: "n1", Have: have}); !apierrors.IsNotFound(err) {
		t.Errorf("a poll: %v, want that it has to register", err)
	}
	full := corev1.NodeStatus{Capacity: corev1.ResourceList{corev1.ResourcePods: {}}}
	if err := agent.Report(t.Context(), link.Report{Node: "n1", NodeStatus: &full}); !apierrors.IsNotFound(err) {
		t.Errorf("a report: %v, want that it has to register", err)
	}
	if _, err := agent.Register(t.Context(), registration("n1", here)); err != nil {
		t.Fatal(err)
	}
	if c := s.readiness("web"); c.Status != corev1.ConditionTrue {
		t.Errorf("its Pod is %+v", c)
	}
	got, err := agent.Pods(t.Context(), link.PodsRequest{Node: "n1", Have: have})
	if err != nil || len(got.Gone) != 1 || got.Gone[0] != "replaced" || len(got.Pods) != 1 || got.Pods[0].UID != "u1" {
		t.Errorf("%+v, %v, want its Pod, and the one that was replaced gone", got, err)
	}
}

// A new machine under an old name has none of the Pods: they serve nobody until it has started them.
func TestANodeReplacedUnderItsNameStartsItsPods(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""))
	agent := s.agent("n1")
	first, err := agent.Register(t.Context(), registration("n1", readyOn(ran("web", "n1", "u1", "10.244.3.2"))))
	if err != nil {
		t.Fatal(err)
	}
	second, err := agent.Register(t.Context(), registration("n1"))
	if err != nil || second.PodCIDR != first.PodCIDR {
		t.Fatalf("%+v, %v, want the range of before", second, err)
	}
	if c := s.readiness("web"); c.Status != corev1.ConditionFalse || c.Reason != "NotOnNode" {
		t.Errorf("a Pod that is not there is %+v", c)
	}
	got, err := agent.Pods(t.Context(), link.PodsRequest{Node: "n1", Have: map[types.UID]string{}})
	if err != nil || len(got.Pods) != 1 || got.Pods[0].UID != "u1" {
		t.Errorf("%+v, %v, want the Pod to be started", got, err)
	}
}

// A node that was declared before it came brings its Pods as an unknown one does, and keeps what is declared of it.
func TestADeclaredNodeBringsItsPods(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""),
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "fast"}}, Spec: corev1.NodeSpec{Unschedulable: true}})
	if _, err := s.agent("n1").Pods(t.Context(), link.PodsRequest{Node: "n1"}); !apierrors.IsNotFound(err) {
		t.Errorf("a poll before it came: %v, want that it has to register", err)
	}
	got, err := s.agent("n1").Register(t.Context(), registration("n1", ran("web", "n1", "u1", "10.244.3.2")))
	if err != nil || got.Adopted != 1 || got.PodCIDR != "10.244.3.0/24" {
		t.Errorf("%+v, %v, want its Pod taken in", got, err)
	}
	node, _ := state.Get[*corev1.Node](s.store.View(), state.Key{Name: "n1"})
	if len(node.Labels) != 2 || !node.Spec.Unschedulable || !object.Joined(node) {
		t.Errorf("%+v %+v", node.ObjectMeta, node.Spec)
	}
}
