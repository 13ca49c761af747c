package sched

import (
	"fmt"
	"slices"
	"strings"
)

// Reasons says why a Pod fits nowhere: by reason, the number of nodes it holds for. A node that lacks several resources
// counts for each.
type Reasons map[string]int

const portsInUse = "node(s) didn't have free ports for the requested pod ports"

// reasons works out why no node takes d.
func (v *View) reasons(d *demand) Reasons {
	found := Reasons{}
	for i := range v.nodes {
		if why := d.class.excluded[i]; why != "" {
			found[why]++
			continue
		}
		v.nodes[i].lacks(d, found)
	}
	return found
}

// lacks adds what the node does not have for d.
func (n *node) lacks(d *demand, found Reasons) {
	if n.portsTaken(d.ports) {
		found[portsInUse]++
		return
	}
	if n.free[pods] < 1 {
		found["Too many pods"]++
	}
	for r, name := range []string{cpu: "cpu", memory: "memory", disk: "ephemeral-storage"} {
		if d.amount[r] > 0 && d.amount[r] > n.free[r] {
			found["Insufficient "+name]++
		}
	}
	for name, amount := range d.extended {
		if amount > n.extended[name] {
			found["Insufficient "+string(name)]++
		}
	}
}

// message is kube-scheduler's sentence, of all nodes.
func (r Reasons) message(nodes int) string {
	if nodes == 0 {
		return "no nodes available to schedule pods"
	}
	parts := make([]string, 0, len(r))
	for why, count := range r {
		parts = append(parts, fmt.Sprintf("%d %s", count, why))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}
