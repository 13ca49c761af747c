package sched

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// The resources that every node has and almost every Pod asks for are numbers in arrays, in the units below.
const (
	cpu    = iota // thousandths of a core
	memory        // bytes
	disk          // bytes of ephemeral storage
	pods
	resources
)

// View is what Place looks at: the nodes and what is left on them. It is made from one state for one pass; what is placed
// in that pass is reserved in it. It is for one goroutine.
type View struct {
	reader     state.Reader
	remembered *memo
	nodes      []node // by name
	byName     map[string]int32
	classes    map[string]*class
	hopeless   map[failureKey]Reasons // what has already fitted nowhere in this pass

	// owners lists by owner the node of each of its Pods, as far as anybody asked; ownerPods counts them by node for the
	// owner of the Pod being placed.
	owners    map[types.UID][]int32
	owner     types.UID
	ownerPods []int32
	ownerMost int32
}

// node is one node and what is left on it.
type node struct {
	object      *corev1.Node
	ready       bool
	free        [resources]int64
	extended    map[corev1.ResourceName]int64 // what is left of other resources
	used        [2]float64                    // cpu and memory for scoring: Pods that ask for nothing weigh something
	perCapacity [2]float64                    // 1/allocatable, 0 for none
	ports       []hostPort
}

// NewView looks at all nodes and bound Pods of r.
func NewView(r state.Reader) *View { return newView(r, newMemo()) }

func newView(r state.Reader, remembered *memo) *View {
	v := &View{
		reader: r, byName: map[string]int32{}, remembered: remembered, classes: map[string]*class{},
		hopeless: map[failureKey]Reasons{}, owners: map[types.UID][]int32{},
	}
	for n := range state.List[*corev1.Node](r, "") {
		v.byName[n.Name] = int32(len(v.nodes))
		v.nodes = append(v.nodes, newNode(n))
	}
	v.ownerPods = make([]int32, len(v.nodes))
	for p := range state.List[*corev1.Pod](r, "") {
		if i, bound := v.byName[p.Spec.NodeName]; bound && !finished(p) {
			v.nodes[i].add(remembered.needs(p))
		}
	}
	return v
}

func newNode(n *corev1.Node) node {
	out := node{object: n, ready: ready(n)}
	for name, q := range n.Status.Allocatable {
		switch name {
		case corev1.ResourceCPU:
			out.free[cpu] = q.MilliValue()
		case corev1.ResourceMemory:
			out.free[memory] = q.Value()
		case corev1.ResourceEphemeralStorage:
			out.free[disk] = q.Value()
		case corev1.ResourcePods:
			out.free[pods] = q.Value()
		default:
			if out.extended == nil {
				out.extended = map[corev1.ResourceName]int64{}
			}
			out.extended[name] = q.Value()
		}
	}
	for _, r := range []int{cpu, memory} {
		if out.free[r] > 0 {
			out.perCapacity[r] = 1 / float64(out.free[r])
		}
	}
	return out
}

// add takes what a Pod needs from what is left.
func (n *node) add(d *needs) {
	for r, amount := range d.amount {
		n.free[r] -= amount
	}
	n.used[cpu] += d.weight[cpu]
	n.used[memory] += d.weight[memory]
	for name, amount := range d.extended {
		if n.extended == nil {
			n.extended = map[corev1.ResourceName]int64{}
		}
		n.extended[name] -= amount
	}
	n.ports = append(n.ports, d.ports...)
}

// reserve keeps node i's room for d.
func (v *View) reserve(i int, d *demand) {
	v.nodes[i].add(d.needs)
	if d.owner == "" {
		return
	}
	v.spreadOver(d.owner)
	v.owners[d.owner] = append(v.owners[d.owner], int32(i))
	v.ownerPods[i]++
	v.ownerMost = max(v.ownerMost, v.ownerPods[i])
}

// spreadOver makes ownerPods count the Pods of owner.
func (v *View) spreadOver(owner types.UID) {
	if v.owner == owner {
		return
	}
	for _, i := range v.owners[v.owner] {
		v.ownerPods[i] = 0
	}
	v.owner, v.ownerMost = owner, 0
	if owner == "" {
		return
	}
	if _, known := v.owners[owner]; !known {
		v.owners[owner] = v.nodesOf(owner)
	}
	for _, i := range v.owners[owner] {
		v.ownerPods[i]++
		v.ownerMost = max(v.ownerMost, v.ownerPods[i])
	}
}

func (v *View) nodesOf(owner types.UID) []int32 {
	found := []int32{}
	for p := range state.ListBy(v.reader, tables.PodsByOwner, string(owner)) {
		if i, bound := v.byName[p.Spec.NodeName]; bound && !finished(p) {
			found = append(found, i)
		}
	}
	return found
}

// finished says whether the Pod no longer uses anything of its node.
func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func ready(n *corev1.Node) bool {
	i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	return i >= 0 && n.Status.Conditions[i].Status == corev1.ConditionTrue
}

func ownerOf(p *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return ref.UID
	}
	return ""
}
