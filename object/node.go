package object

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// AuthorityAnnotation of a Node is the mark of the authority that the node trusts and has its certificate from, as it last said.
const AuthorityAnnotation = "mainstay.dev/authority"

// MachineAnnotation of a Node says which of the machines that had the node's name in turn is the node: the certificates of the
// others are good for nothing. It is what the certificate's subject has as its serial number.
const MachineAnnotation = "mainstay.dev/machine"

// Restored is True in a Node that is known from a snapshot only: its agent has not come to this store yet. What it says of
// itself when it does replaces the condition.
const Restored corev1.NodeConditionType = "Restored"

// Joined says whether an agent has ever registered as this node; before, it is only declared, or known from a snapshot.
func Joined(node *corev1.Node) bool {
	if slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == Restored }) {
		return false
	}
	return node.Spec.PodCIDR != "" || len(node.Status.Conditions) > 0
}

// NodeReady is a node's Ready condition; one that is Unknown, without reason, if the node says nothing of it.
func NodeReady(node *corev1.Node) corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			return node.Status.Conditions[i]
		}
	}
	return corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}
}

// ReasonNodeSilent is the reason of a node's Ready condition while nothing is heard of the node. Servers write it, never agents.
const ReasonNodeSilent = "NodeStatusUnknown"

// Silent says whether servers have given up hearing from a node.
func Silent(node *corev1.Node) bool {
	ready := NodeReady(node)
	return ready.Status == corev1.ConditionUnknown && ready.Reason == ReasonNodeSilent
}

func hasJoined(obj Object) bool { return Joined(obj.(*corev1.Node)) }
