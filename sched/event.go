package sched

import (
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

// component is kube-scheduler's name for itself, which tools look for.
const component = "default-scheduler"

// maxEventName leaves room for the hash within Kubernetes' limit of 253.
const maxEventName = 230

// happening is what an Event says.
type happening struct{ kind, reason, message string }

// emit writes an Event about p. The same said before of the same Pod is counted up.
func emit(tx *state.Txn, p *corev1.Pod, h happening, now time.Time) {
	at := metav1.NewTime(now.Truncate(time.Second))
	key := eventKey(p, h)
	if before, ok := state.Get[*corev1.Event](tx, key); ok {
		again := before.DeepCopy()
		again.Count++
		again.LastTimestamp = at
		tx.Update(again)
		return
	}
	tx.Create(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
		},
		Type: h.kind, Reason: h.reason, Message: h.message, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Source: corev1.EventSource{Component: component}, ReportingController: component,
	})
}

func eventKey(p *corev1.Pod, h happening) state.Key {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s\x00%s\x00%s\x00%s", p.UID, h.kind, h.reason, h.message)
	return state.Key{Namespace: p.Namespace, Name: fmt.Sprintf("%s.%016x", p.Name[:min(len(p.Name), maxEventName)], hash.Sum64())}
}
