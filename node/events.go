package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const (
	component = "mainstay-agent"
	// eventsGap bounds how often Events are sent; the first after a quiet time goes at once.
	eventsGap = time.Second
	// forgetEventAfter ends an Event's counting: the next like it is a new one. Kubernetes' number.
	forgetEventAfter = 10 * time.Minute
	// maxEventsAtOnce keeps a request well below the 500 Events that a server takes from a node at once: a larger one would be
	// refused each time it is repeated.
	maxEventsAtOnce = 100
	// maxUnsentEvents bounds what waits for a server; the oldest are dropped.
	maxUnsentEvents = 1000
	// burstOfEvents and eventRefill limit one object's Events, as Kubernetes does.
	burstOfEvents = 25
	eventRefill   = 5 * time.Minute
)

// eventKey is what makes two Events one.
type eventKey struct {
	Object                       types.UID
	Field, Type, Reason, Message string
}

// budget is how many more Events an object may have.
type budget struct {
	left int
	at   time.Time // of the last refill
}

// recorder makes Events of what happens to Pods: the same again only counts up, and one object cannot flood the rest.
type recorder struct {
	node   string
	client *link.Client
	log    *slog.Logger

	mu      sync.Mutex
	seen    map[eventKey]*corev1.Event // guarded by mu
	unsent  []eventKey                 // in the order they came; guarded by mu
	queued  map[eventKey]bool          // guarded by mu
	budgets map[types.UID]*budget      // guarded by mu
	last    int64                      // what the newest Event is named by; guarded by mu
	wake    chan struct{}              // capacity 1: a token, not a queue
}

func newRecorder(node string, client *link.Client, log *slog.Logger) *recorder {
	return &recorder{
		node: node, client: client, log: log, seen: map[eventKey]*corev1.Event{}, queued: map[eventKey]bool{},
		budgets: map[types.UID]*budget{}, wake: make(chan struct{}, 1),
	}
}

// normal records that something went as intended. container may be empty.
func (r *recorder) normal(pod *corev1.Pod, container, reason, message string) {
	r.record(pod, fieldOf(pod, container), corev1.EventTypeNormal, reason, message)
}

// warning records that something did not go as intended. The message must hold nothing secret.
func (r *recorder) warning(pod *corev1.Pod, container, reason, message string) {
	r.record(pod, fieldOf(pod, container), corev1.EventTypeWarning, reason, message)
}

func fieldOf(pod *corev1.Pod, container string) string {
	if container == "" {
		return ""
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			return "spec.initContainers{" + container + "}"
		}
	}
	return "spec.containers{" + container + "}"
}

func (r *recorder) record(pod *corev1.Pod, field, kind, reason, message string) {
	key := eventKey{Object: pod.UID, Field: field, Type: kind, Reason: reason, Message: message}
	now := metav1.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now.Time)
	if !r.allow(pod.UID, now.Time) {
		return
	}
	e := r.seen[key]
	if e == nil {
		e = r.newEvent(pod, key, now)
		r.seen[key] = e
	}
	e.Count++
	e.LastTimestamp = now
	if !r.queued[key] {
		r.queued[key] = true
		r.unsent = append(r.unsent, key)
	}
	if len(r.unsent) > maxUnsentEvents {
		delete(r.queued, r.unsent[0])
		r.unsent = r.unsent[1:]
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// newEvent is called with mu held.
func (r *recorder) newEvent(pod *corev1.Pod, key eventKey, now metav1.Time) *corev1.Event {
	r.last = max(now.UnixNano(), r.last+1)
	return &corev1.Event{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: fmt.Sprintf("%s.%x", pod.Name, r.last)},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, FieldPath: key.Field,
		},
		Reason: key.Reason, Message: key.Message, Type: key.Type,
		Source: corev1.EventSource{Component: component, Host: r.node}, ReportingController: component, ReportingInstance: r.node,
		FirstTimestamp: now,
	}
}

// expire forgets what has not happened for a while. The caller holds mu.
func (r *recorder) expire(now time.Time) {
	for key, e := range r.seen {
		if now.Sub(e.LastTimestamp.Time) > forgetEventAfter && !r.queued[key] {
			delete(r.seen, key)
		}
	}
	for uid, b := range r.budgets {
		if b.left >= burstOfEvents || now.Sub(b.at) > burstOfEvents*eventRefill {
			delete(r.budgets, uid)
		}
	}
}

// allow takes from the object's budget. The caller holds mu.
func (r *recorder) allow(uid types.UID, now time.Time) bool {
	b := r.budgets[uid]
	if b == nil {
		b = &budget{left: burstOfEvents, at: now}
		r.budgets[uid] = b
	}
	if refills := int(now.Sub(b.at) / eventRefill); refills > 0 {
		b.left, b.at = min(burstOfEvents, b.left+refills), b.at.Add(time.Duration(refills)*eventRefill)
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

// run sends until ctx ends.
func (r *recorder) run(ctx context.Context) error {
	var failed time.Duration
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		for batch := r.take(); len(batch) > 0; batch = r.take() {
			err := r.client.Events(ctx, link.Events{Node: r.node, Events: r.copies(batch)})
			failed = r.settle(batch, err, failed)
			if !pause(ctx, max(eventsGap, failed)) {
				return nil
			}
		}
	}
}

// take returns what is to be sent next, the oldest first.
func (r *recorder) take() []eventKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.unsent), maxEventsAtOnce)
	batch := slices.Clone(r.unsent[:n])
	r.unsent = slices.Delete(r.unsent, 0, n)
	for _, key := range batch {
		delete(r.queued, key)
	}
	return batch
}

func (r *recorder) copies(batch []eventKey) []corev1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := make([]corev1.Event, 0, len(batch))
	for _, key := range batch {
		if e := r.seen[key]; e != nil {
			events = append(events, *e.DeepCopy())
		}
	}
	return events
}

// settle queues again what could not be sent, and returns how long to wait because of it.
func (r *recorder) settle(batch []eventKey, err error, failed time.Duration) time.Duration {
	if err == nil {
		return 0
	}
	r.log.Debug("events not delivered", "err", err, "events", len(batch))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range batch {
		if !r.queued[key] && r.seen[key] != nil && len(r.unsent) < maxUnsentEvents {
			r.queued[key] = true
			r.unsent = append(r.unsent, key)
		}
	}
	return double(failed, firstRetry, maxRetry)
}
