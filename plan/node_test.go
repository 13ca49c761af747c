package plan_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

const (
	settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
	drained  = `
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {disk: fast}}
spec: {unschedulable: true, taints: [{key: repair, effect: NoExecute}, {key: gpu, effect: NoSchedule}]}
`
	bareNode = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n"
)

// machine is a node that has joined and is silent.
func machine() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"kubernetes.io/hostname": "n1"}, Annotations: map[string]string{"mainstay.dev/address": "n1:1"}},
		Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24", PodCIDRs: []string{"10.1.0.0/24"},
			Taints: []corev1.Taint{{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute, TimeAdded: new(metav1.Now())}}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}},
	}
}

func nodeIn(s *state.Store) *corev1.Node {
	node, _ := state.Get[*corev1.Node](s.View(), state.Key{Name: "n1"})
	return node
}

func taintsOf(node *corev1.Node) (out []string) {
	for _, t := range node.Spec.Taints {
		out = append(out, t.Key)
	}
	slices.Sort(out)
	return out
}

// What Git says of a machine comes and goes with the declaration; the machine, and what the cluster says of it, stay.
func TestANodeOutlivesItsDeclaration(t *testing.T) {
	for name, without := range map[string]tree{
		"no longer declared": {{"a.yaml", settings}},
		"declared as it is":  {{"a.yaml", settings}, {"n.yaml", bareNode}},
	} {
		t.Run(name, func(t *testing.T) {
			s := statetest.New(t, machine())
			before := nodeIn(s)
			activate(t, s, tree{{"a.yaml", settings}, {"n.yaml", drained}}, plan.Commit{})
			node := nodeIn(s)
			if diff := cmp.Diff([]string{"gpu", "node.kubernetes.io/unreachable", "repair"}, taintsOf(node)); diff != "" {
				t.Errorf("declared (-want +got):\n%s", diff)
			}
			if !node.Spec.Unschedulable || len(node.Labels) != 2 || node.Spec.PodCIDR != before.Spec.PodCIDR {
				t.Errorf("declared: %+v %+v", node.ObjectMeta, node.Spec)
			}
			activate(t, s, without, plan.Commit{})
			node = nodeIn(s)
			if node == nil {
				t.Fatal("the node was deleted")
			}
			node = node.DeepCopy()
			node.ResourceVersion, node.Generation = before.ResourceVersion, before.Generation
			if diff := cmp.Diff(before, node); diff != "" {
				t.Errorf("afterwards (-before +after):\n%s", diff)
			}
			if state.Len[*object.Source](s.View()) != len(without) {
				t.Error("a declaration is left behind")
			}
		})
	}
}

// The cluster's own taints come and go while Git's stay, and are no difference to what Git declares.
func TestTheClustersTaintsAreNoDifference(t *testing.T) {
	node := machine()
	s := statetest.New(t, node)
	activate(t, s, tree{{"n.yaml", drained}}, plan.Commit{})
	statetest.Update(t, s, func(tx *state.Txn) {
		back := nodeIn(s).DeepCopy()
		back.Spec.Taints = slices.DeleteFunc(back.Spec.Taints, func(t corev1.Taint) bool { return t.Key == "node.kubernetes.io/unreachable" })
		for i := range back.Spec.Taints {
			back.Spec.Taints[i].TimeAdded = new(metav1.Now())
		}
		tx.Update(back)
	})
	if p := activate(t, s, tree{{"n.yaml", drained + "\n# the same\n"}}, plan.Commit{}); len(p.Changes) != 0 {
		t.Errorf("a plan without a change of Git's: %v", steps(p))
	}
}

func TestANodeThatNeverJoinedGoesWithItsDeclaration(t *testing.T) {
	s := statetest.New(t)
	activate(t, s, tree{{"a.yaml", settings}, {"n.yaml", drained}}, plan.Commit{})
	if node := nodeIn(s); node == nil || object.Joined(node) {
		t.Fatalf("declared: %+v", node)
	}
	activate(t, s, tree{{"a.yaml", settings}}, plan.Commit{})
	if nodeIn(s) != nil {
		t.Error("still there")
	}
}
