// Package sched chooses a node for each unbound Pod. Place is pure and holds all policy; Bind writes what it chooses for all
// Pods of a transaction; Run follows the store and binds. Nothing here talks to nodes. Start at Place.
package sched

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// The weights of the scores, each 0 to 100, are kube-scheduler's.
const (
	weightTaints   = 3 // fewer PreferNoSchedule taints that the Pod does not tolerate
	weightSpread   = 2 // fewer Pods of the same owner
	weightAffinity = 2 // more of the preferred node affinity
	weightLeast    = 1 // more free cpu and memory
	weightBalanced = 1 // cpu and memory used alike
)

// Place returns the name of the node that suits the Pod best, or "" and why each node does not. It reserves nothing. The
// same view and Pod always give the same node; of equally good ones it is the first by name.
func Place(v *View, pod *corev1.Pod) (string, Reasons) {
	i, why := v.choose(v.demand(pod))
	if i < 0 {
		return "", why
	}
	return v.nodes[i].object.Name, nil
}

// choose returns the index of the node for d, or -1 and why there is none.
func (v *View) choose(d *demand) (int, Reasons) {
	if why, known := v.hopeless[d.failureKey()]; known {
		return -1, why
	}
	if i := v.best(d); i >= 0 {
		return i, nil
	}
	why := v.reasons(d)
	if d.simple() { // Room is only ever taken from a view, so it stays hopeless.
		v.hopeless[d.failureKey()] = why
	}
	return -1, why
}

func (v *View) best(d *demand) int {
	v.spreadOver(d.owner)
	found, high := -1, math.Inf(-1)
	for _, i := range d.class.nodes {
		n := &v.nodes[i]
		if !n.fits(d) {
			continue
		}
		if score := n.score(d) + d.class.scores[i] + v.spread(i); score > high {
			found, high = int(i), score
		}
	}
	return found
}

// fits says whether the node has room for d.
func (n *node) fits(d *demand) bool {
	if n.free[pods] < 1 || d.amount[cpu] > 0 && d.amount[cpu] > n.free[cpu] ||
		d.amount[memory] > 0 && d.amount[memory] > n.free[memory] || d.amount[disk] > 0 && d.amount[disk] > n.free[disk] {
		return false
	}
	return d.simple() || n.fitsRest(d)
}

// fitsRest checks what few Pods ask for.
func (n *node) fitsRest(d *demand) bool {
	for name, amount := range d.extended {
		if amount > n.extended[name] {
			return false
		}
	}
	return !n.portsTaken(d.ports)
}

// score is how well d would leave the node's resources.
func (n *node) score(d *demand) float64 {
	usedCPU := min(1, (n.used[cpu]+d.weight[cpu])*n.perCapacity[cpu])
	usedMemory := min(1, (n.used[memory]+d.weight[memory])*n.perCapacity[memory])
	least := 100 * (2 - usedCPU - usedMemory) / 2
	balanced := 100 * (1 - math.Abs(usedCPU-usedMemory)/2)
	return weightLeast*least + weightBalanced*balanced
}

// spread scores node i by how few Pods of the current owner it has.
func (v *View) spread(i int32) float64 {
	if v.ownerMost == 0 {
		return 0
	}
	return weightSpread * 100 * float64(v.ownerMost-v.ownerPods[i]) / float64(v.ownerMost)
}
