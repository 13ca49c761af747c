package replicaset

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// namesShown bounds the names in one Event.
const namesShown = 5

// report writes the status as it is after this transaction. It returns when the next Pod becomes available by time alone.
func report(tx *state.Txn, rs *appsv1.ReplicaSet, now time.Time) (next time.Duration) {
	status := appsv1.ReplicaSetStatus{ObservedGeneration: rs.Generation, Conditions: rs.Status.Conditions}
	minReady := time.Duration(rs.Spec.MinReadySeconds) * time.Second
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	terminating := int32(0)
	for pod := range state.ListBy(tx, tables.PodsByOwner, string(rs.UID)) {
		if pod.DeletionTimestamp != nil && !podcontrol.Finished(pod) {
			terminating++
		}
		if !podcontrol.Active(pod) {
			continue
		}
		status.Replicas++
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		wait, ready := podcontrol.AvailableIn(pod, minReady, now)
		switch {
		case ready && wait == 0:
			status.ReadyReplicas++
			status.AvailableReplicas++
		case ready:
			status.ReadyReplicas++
			next = sooner(next, wait)
		}
	}
	status.TerminatingReplicas = &terminating
	reported := rs.DeepCopy()
	reported.Status = status
	tx.SetStatus(reported)
	return next
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// say writes one Event for all Pods of this transaction.
func say(tx *state.Txn, rs *appsv1.ReplicaSet, reason, message string, now time.Time) {
	event.Emit(tx, event.Event{About: rs, From: "replicaset-controller", Type: corev1.EventTypeNormal, Reason: reason, Message: message}, now)
}

// pods says what was done to which Pods; of many, it names the first.
func pods(done string, names []string) string {
	if len(names) == 1 {
		return done + " pod: " + names[0]
	}
	message := fmt.Sprintf("%s %d pods: %s", done, len(names), strings.Join(names[:min(len(names), namesShown)], ", "))
	if len(names) > namesShown {
		message += ", …"
	}
	return message
}
