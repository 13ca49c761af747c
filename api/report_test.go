package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

// An agent that finds no engine cannot say what its node has, but that it is not Ready.
func TestReportOfConditionsAloneKeepsTheRest(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""))
	req := registration("n1")
	req.Node.Status = corev1.NodeStatus{
		Capacity:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse}},
	}
	if _, err := s.agent("n1").Register(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	silent := &corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "EngineUnresponsive"}, {Type: "EngineResponsive", Status: corev1.ConditionFalse},
	}}
	if err := s.agent("n1").Report(t.Context(), link.Report{Node: "n1", NodeStatus: silent}); err != nil {
		t.Fatal(err)
	}
	node, _ := state.Get[*corev1.Node](s.store.View(), state.Key{Name: "n1"})
	if node.Status.Capacity.Cpu().Value() != 2 {
		t.Errorf("capacity = %v, want it kept", node.Status.Capacity)
	}
	got := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range node.Status.Conditions {
		got[c.Type] = c.Status
	}
	if len(got) != 3 || got[corev1.NodeReady] != corev1.ConditionFalse || got["EngineResponsive"] != corev1.ConditionFalse {
		t.Errorf("conditions = %v, want Ready and EngineResponsive False and the other as it was", got)
	}
}
