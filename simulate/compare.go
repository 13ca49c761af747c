package simulate

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

func podCount(r state.Reader) int { return state.Len[*corev1.Pod](r) }

// owner is what a person takes a Pod for: its Deployment, its ReplicaSet, or itself.
type owner struct{ namespace, kind, name string }

// tally is what becomes of the Pods of one owner.
type tally struct {
	kept, gone    int
	nodes         map[string]int // of new Pods
	unschedulable map[string]int // new Pods by reason
}

// comparePods says what became of every Pod, which is the same if its uid is.
func comparePods(before, after *state.Snapshot) plan.PodReport {
	tallies := map[owner]*tally{}
	of := func(r state.Reader, pod *corev1.Pod) *tally {
		o := ownerOf(r, pod)
		if tallies[o] == nil {
			tallies[o] = &tally{nodes: map[string]int{}, unschedulable: map[string]int{}}
		}
		return tallies[o]
	}
	was := map[types.UID]bool{}
	for pod := range state.List[*corev1.Pod](before, "") {
		was[pod.UID] = true
		if now, ok := state.Get[*corev1.Pod](after, state.KeyOf(pod)); ok && now.UID == pod.UID {
			of(before, pod).kept++
		} else {
			of(before, pod).gone++
		}
	}
	for pod := range state.List[*corev1.Pod](after, "") {
		switch t := of(after, pod); {
		case was[pod.UID]:
		case pod.Spec.NodeName == "":
			t.unschedulable[whyNot(pod)]++
		default:
			t.nodes[pod.Spec.NodeName]++
		}
	}
	return reportOf(tallies)
}

// whyNot is the scheduler's reason.
func whyNot(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return "it was not scheduled"
}

func ownerOf(r state.Reader, pod *corev1.Pod) owner {
	o := owner{pod.Namespace, "Pod", pod.Name}
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return o
	}
	o.kind, o.name = ref.Kind, ref.Name
	if rs, ok := state.Get[*appsv1.ReplicaSet](r, state.Key{Namespace: pod.Namespace, Name: ref.Name}); ok && ref.Kind == "ReplicaSet" {
		if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
			o.kind, o.name = ref.Kind, ref.Name
		}
	}
	return o
}

func reportOf(tallies map[owner]*tally) plan.PodReport {
	report := plan.PodReport{Workloads: []plan.Workload{}}
	owners := slices.SortedFunc(maps.Keys(tallies), func(a, b owner) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	for _, o := range owners {
		w := tallies[o].workload(o)
		report.Kept += w.Kept
		report.Replaced += w.Replaced
		report.Created += w.Created
		report.Deleted += w.Deleted
		for _, u := range w.Unschedulable {
			report.Unschedulable += u.Pods
		}
		if w.Replaced+w.Created+w.Deleted > 0 {
			report.Workloads = append(report.Workloads, w)
		}
	}
	return report
}

// workload pairs Pods that went with Pods that came.
func (t *tally) workload(o owner) plan.Workload {
	w := plan.Workload{Kind: o.kind, Namespace: o.namespace, Name: o.name, Kept: t.kept}
	came := 0
	for _, node := range slices.Sorted(maps.Keys(t.nodes)) {
		w.Nodes = append(w.Nodes, plan.NodeShare{Node: node, Pods: t.nodes[node]})
		came += t.nodes[node]
	}
	for _, reason := range slices.Sorted(maps.Keys(t.unschedulable)) {
		w.Unschedulable = append(w.Unschedulable, plan.Unschedulable{Reason: reason, Pods: t.unschedulable[reason]})
		came += t.unschedulable[reason]
	}
	w.Replaced = min(came, t.gone)
	w.Created, w.Deleted = came-w.Replaced, t.gone-w.Replaced
	return w
}
