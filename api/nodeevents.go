package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// eventsPerSecond and eventBurst bound what one node may write: a burst is a full node starting, and a loop that crashes
	// all day must not push everything else out of the log.
	eventsPerSecond = 10
	eventBurst      = 500
	// maxEventText is Kubernetes' bound for an Event's message.
	maxEventText = 1024
)

// limits holds the events each node may still send. The zero value is ready.
type limits struct {
	mu    sync.Mutex
	nodes map[string]*rate.Limiter // guarded by mu
}

func (l *limits) of(node string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes == nil {
		l.nodes = map[string]*rate.Limiter{}
	}
	if l.nodes[node] == nil {
		l.nodes[node] = rate.NewLimiter(eventsPerSecond, eventBurst)
	}
	return l.nodes[node]
}

// nodeEvents writes a node's Events. One that exists already is replaced: its count grew.
func (a *API) nodeEvents(ctx context.Context, id Identity, req link.Events) error {
	if err := itself(id, req.Node); err != nil {
		return err
	}
	// The name is not that of a registered node until the store says so: strangers get no limiter to fill memory with.
	if _, err := knownNode(a.Store.View(), req.Node); err != nil {
		return err
	}
	for len(req.Events) > 0 {
		batch := req.Events[:min(len(req.Events), eventBurst)]
		if !a.limits.of(req.Node).AllowN(time.Now(), len(batch)) {
			return apierrors.NewTooManyRequests(fmt.Sprintf("node %s sends more than %d Events a second", req.Node, eventsPerSecond), 1)
		}
		if err := a.writeEvents(ctx, req.Node, batch); err != nil {
			return err
		}
		req.Events = req.Events[len(batch):]
	}
	return nil
}

func (a *API) writeEvents(ctx context.Context, node string, events []corev1.Event) error {
	_, err := a.Store.Update(ctx, func(tx *state.Txn) error {
		for i := range events {
			if concerns(tx, node, &events[i]) {
				writeEvent(tx, &events[i])
			}
		}
		return nil
	})
	return err
}

// concerns reports whether an Event is about the node or one of its Pods, and complete.
func concerns(tx *state.Txn, node string, e *corev1.Event) bool {
	if e.Name == "" || e.Namespace == "" {
		return false
	}
	about := e.InvolvedObject
	if about.Kind == "Node" {
		return about.Name == node
	}
	pod, ok := state.Get[*corev1.Pod](tx, state.Key{Namespace: about.Namespace, Name: about.Name})
	// The Event may outlive its Pod; what it may not be is about another node's.
	return about.Kind == "Pod" && e.Namespace == about.Namespace && (!ok || pod.UID != about.UID || pod.Spec.NodeName == node)
}

func writeEvent(tx *state.Txn, e *corev1.Event) {
	e = e.DeepCopy()
	if len(e.Message) > maxEventText {
		e.Message = strings.ToValidUTF8(e.Message[:maxEventText-len("…")], "") + "…"
	}
	before, ok := state.Get[*corev1.Event](tx, state.KeyOf(e))
	if !ok {
		e.ResourceVersion, e.UID = "", ""
		tx.Create(e)
		return
	}
	if before.InvolvedObject.UID != e.InvolvedObject.UID || before.Source != e.Source {
		return // somebody else's
	}
	e.ResourceVersion = before.ResourceVersion
	tx.Update(e)
}
