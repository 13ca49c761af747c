package api

import (
	"context"
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
		node, err := knownNode(tx, req.Node)
		if err != nil {
			return err
		}
		if req.NodeStatus != nil {
			changed := *node
			changed.Status = nodeStatus(&node.Status, req.NodeStatus)
			tx.SetStatus(&changed)
		}
		for _, s := range req.Statuses {
			reportPod(tx, req.Node, s)
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
func reportPod(tx *state.Txn, node string, s link.PodStatus) {
	pod, ok := boundPod(tx, node, s.PodRef)
	if !ok {
		return
	}
	changed := *pod
	changed.Status = s.Status
	keepScheduled(&changed.Status, &pod.Status)
	tx.SetStatus(&changed)
}

// keepScheduled keeps what the scheduler and the server know and an agent cannot.
func keepScheduled(status, before *corev1.PodStatus) {
	isScheduled := func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled }
	if !slices.ContainsFunc(status.Conditions, isScheduled) {
		if i := slices.IndexFunc(before.Conditions, isScheduled); i >= 0 {
			status.Conditions = append([]corev1.PodCondition{before.Conditions[i]}, status.Conditions...)
		}
	}
	if status.QOSClass == "" {
		status.QOSClass = before.QOSClass
	}
}
