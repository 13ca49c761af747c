package simulate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/disruption"
	"github.com/mainstay-cluster/mainstay/controllers/nodelife"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/simulate"
	"github.com/mainstay-cluster/mainstay/state"
)

// A plan that empties a node shows which Pods move, and comes to rest although the budget lets only one go at a time.
func TestADrainIsForetold(t *testing.T) {
	const (
		drain  = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {taints: [{key: repair, effect: NoExecute}]}}"
		budget = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web, namespace: default}, spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}}"
	)
	s := standing(t, nodes("n1", "n2"), deploy("web", "web:1", 4), budget)
	cluster := live()
	cluster.Controllers = append(cluster.Controllers, disruption.Controller())
	cluster.Controllers = append(cluster.Controllers, nodelife.Controllers(nil)...)
	got, err := simulate.Run(t.Context(), s.View(), cluster, desired(t, deploy("web", "web:1", 4), budget, drain), simulate.Commit{})
	if err != nil {
		t.Fatal(err)
	}
	want := plan.PodReport{Kept: 2, Replaced: 2, Workloads: []plan.Workload{
		{Kind: "Deployment", Namespace: "default", Name: "web", Kept: 2, Replaced: 2, Nodes: []plan.NodeShare{{Node: "n2", Pods: 2}}},
	}}
	if diff := cmp.Diff(want, got.Pods, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if node, _ := state.Get[*corev1.Node](s.View(), state.Key{Name: "n1"}); len(node.Spec.Taints) != 0 {
		t.Error("the plan was carried out")
	}
}
