package nodelife

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// lifeTaints are the taints that say what a node's Ready condition says; they are this package's alone.
var lifeTaints = []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable}

// ofLife says whether a taint stands for the node's condition.
func ofLife(taint *corev1.Taint) bool { return slices.Contains(lifeTaints, taint.Key) }

// pressureTaints keep new Pods from nodes that run out of something. What runs there stays.
var pressureTaints = map[string]corev1.NodeConditionType{
	corev1.TaintNodeMemoryPressure: corev1.NodeMemoryPressure,
	corev1.TaintNodeDiskPressure:   corev1.NodeDiskPressure,
	corev1.TaintNodePIDPressure:    corev1.NodePIDPressure,
}

// underPressure is the node's taints, with those that its conditions of pressure ask for and no others of their kind.
func underPressure(node *corev1.Node, all []corev1.Taint) []corev1.Taint {
	out := slices.DeleteFunc(all, func(t corev1.Taint) bool { return pressureTaints[t.Key] != "" })
	for _, key := range slices.Sorted(maps.Keys(pressureTaints)) {
		under := func(c corev1.NodeCondition) bool {
			return c.Type == pressureTaints[key] && c.Status == corev1.ConditionTrue
		}
		if slices.ContainsFunc(node.Status.Conditions, under) {
			out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	return out
}

// taints is the node's taints, with those that its conditions ask for and no others of their kind, and with the time since
// when each evicts.
func taints(node *corev1.Node, now time.Time) []corev1.Taint {
	want := ""
	switch object.NodeReady(node).Status {
	case corev1.ConditionFalse:
		want = corev1.TaintNodeNotReady
	case corev1.ConditionUnknown:
		want = corev1.TaintNodeUnreachable
	}
	out := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return ofLife(&t) && t.Key != want })
	for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
		has := func(t corev1.Taint) bool { return t.Key == want && t.Effect == effect }
		if want != "" && !slices.ContainsFunc(out, has) {
			out = append(out, corev1.Taint{Key: want, Effect: effect})
		}
	}
	out = underPressure(node, out)
	for i := range out {
		if out[i].TimeAdded == nil && out[i].Effect == corev1.TaintEffectNoExecute {
			at := metav1.NewTime(now.Truncate(time.Second))
			out[i].TimeAdded = &at
		}
	}
	return out
}
