package api

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

// nodeReport writes what a node says of itself and its Pods, in one transaction. Reports of many nodes that come together
// share a log entry: the store's committer gathers them while the entry before is on its way, so an idle server answers
// after one fsync and a busy one writes few entries.
func (a *API) nodeReport(ctx context.Context, id Identity, req link.Report) error {
	if err := itself(id, req.Node); err != nil {
		return err
	}
	a.seen(req.Node)
	_, err := a.Store.Update(ctx, func(tx *state.Txn) error {
		known := heardNode
		if req.NodeStatus != nil && len(req.NodeStatus.Capacity) == 0 {
			known = knownNode // its engine is silent, so it cannot register
		}
		node, err := known(tx, req.Node)
		if err != nil {
			return err
		}
		if req.NodeStatus != nil {
			changed := *node
			changed.Status = nodeStatus(&node.Status, req.NodeStatus)
			tx.SetStatus(&changed)
			node = &changed
		}
		for _, s := range req.Statuses {
			reportPod(tx, node, s)
		}
		for _, ref := range req.Removed {
			// Only a Pod that was asked to go may go: one that vanished otherwise is still wanted.
			if pod, ok := boundPod(tx, req.Node, ref); ok && pod.DeletionTimestamp != nil {
				tx.Delete(pod)
			}
		}
		return nil
	})
	return err
}

// nodeStatus is a node's status after a report. One without a capacity is by an agent that cannot look at its node, and
// tells no more than the conditions in it.
func nodeStatus(before, reported *corev1.NodeStatus) corev1.NodeStatus {
	if len(reported.Capacity) > 0 {
		return *reported
	}
	merged := *before
	merged.Conditions = slices.Clone(before.Conditions)
	for _, c := range reported.Conditions {
		at := slices.IndexFunc(merged.Conditions, func(old corev1.NodeCondition) bool { return old.Type == c.Type })
		if at < 0 {
			merged.Conditions = append(merged.Conditions, c)
		} else {
			merged.Conditions[at] = c
		}
	}
	return merged
}

// reportPod writes one Pod's status, if the Pod is still the one the node means.
func reportPod(tx *state.Txn, node *corev1.Node, s link.PodStatus) {
	pod, ok := boundPod(tx, node.Name, s.PodRef)
	if !ok {
		return
	}
	changed := *pod
	changed.Status = s.Status
	ownAddresses(&changed.Status, pod, node)
	keepScheduled(&changed.Status, &pod.Status)
	tx.SetStatus(&changed)
}

// ownAddresses leaves out addresses that are not of the node's range, or the node's own for a Pod in its network: Services would
// lead to another's Pods by them, and policies would let those in for whom they are not.
func ownAddresses(status *corev1.PodStatus, pod *corev1.Pod, node *corev1.Node) {
	own := inRange(node)
	if pod.Spec.HostNetwork {
		own = isNodes(node)
	}
	foreign := func(text string) bool {
		ip, err := netip.ParseAddr(text)
		return err != nil || !own(ip)
	}
	if status.PodIP != "" && foreign(status.PodIP) {
		status.PodIP = ""
	}
	if slices.ContainsFunc(status.PodIPs, func(ip corev1.PodIP) bool { return foreign(ip.IP) }) {
		status.PodIPs = slices.DeleteFunc(slices.Clone(status.PodIPs), func(ip corev1.PodIP) bool { return foreign(ip.IP) })
	}
}

// inRange says whether an address is of a node's Pods. As long as the node has no range, none is.
func inRange(node *corev1.Node) func(netip.Addr) bool {
	own, err := netip.ParsePrefix(node.Spec.PodCIDR)
	return func(ip netip.Addr) bool { return err == nil && own.Contains(ip) }
}

// isNodes says whether an address is a node's own.
func isNodes(node *corev1.Node) func(netip.Addr) bool {
	return func(ip netip.Addr) bool {
		return slices.ContainsFunc(node.Status.Addresses, func(a corev1.NodeAddress) bool {
			own, err := netip.ParseAddr(a.Address)
			return err == nil && own == ip
		})
	}
}

// keepScheduled keeps what the scheduler and the server know and an agent cannot.
func keepScheduled(status, before *corev1.PodStatus) {
	for _, kind := range []corev1.PodConditionType{corev1.DisruptionTarget, corev1.PodScheduled} {
		is := func(c corev1.PodCondition) bool { return c.Type == kind }
		if slices.ContainsFunc(status.Conditions, is) {
			continue
		}
		if i := slices.IndexFunc(before.Conditions, is); i >= 0 {
			status.Conditions = append([]corev1.PodCondition{before.Conditions[i]}, status.Conditions...)
		}
	}
	if status.QOSClass == "" {
		status.QOSClass = before.QOSClass
	}
}
