// Package event writes Kubernetes Events from within the transaction of a controller or the scheduler. Repeating one counts it
// up instead of adding another. Nothing here deletes: Events end by their age. Start at Emit.
package event

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// A name is cut so that Kubernetes' limit of 253 holds with the hash behind it; a message at Kubernetes' limit for Events.
const (
	maxName    = 230
	maxMessage = 1024
)

// Event is what to say of an object.
type Event struct {
	About   object.Object
	From    string // the component, such as replicaset-controller
	Type    string // corev1.EventTypeNormal or EventTypeWarning
	Reason  string // one word in camel case
	Message string
}

// Emit writes e. The same said before of the same object is counted up. Write at most one per reconcile: an Event costs
// as much as any other object.
func Emit(tx *state.Txn, e Event, now time.Time) {
	if len(e.Message) > maxMessage {
		e.Message = strings.ToValidUTF8(e.Message[:maxMessage-len("…")], "") + "…"
	}
	at := metav1.NewTime(now.Truncate(time.Second))
	key := e.key()
	if before, ok := state.Get[*corev1.Event](tx, key); ok {
		again := before.DeepCopy()
		again.Count++
		again.LastTimestamp = at
		tx.Update(again)
		return
	}
	kind := object.KindOf(e.About)
	apiVersion, kindName := kind.GroupVersionKind.ToAPIVersionAndKind()
	tx.Create(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: apiVersion, Kind: kindName, Namespace: e.About.GetNamespace(), Name: e.About.GetName(),
			UID: e.About.GetUID(), ResourceVersion: e.About.GetResourceVersion(),
		},
		Reason: e.Reason, Message: e.Message, Type: e.Type, Count: 1,
		FirstTimestamp: at, LastTimestamp: at,
		Source:              corev1.EventSource{Component: e.From},
		ReportingController: e.From,
	})
}

// key is the same for the same thing said of the same object. Events about cluster-scoped objects are in default.
func (e Event) key() state.Key {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", e.About.GetUID(), e.Type, e.Reason, e.Message)
	namespace := e.About.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	name := e.About.GetName()
	return state.Key{Namespace: namespace, Name: fmt.Sprintf("%s.%016x", name[:min(len(name), maxName)], h.Sum64())}
}
