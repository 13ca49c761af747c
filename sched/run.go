package sched

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// gather is how long a pass waits for more Pods after the one before it: the first Pod after a quiet time is placed at
	// once, and of a burst only the last waits, never longer than this.
	gather = 50 * time.Millisecond
	// perTransaction bounds a transaction, so that other writers get their turn.
	perTransaction = 500
	// lookAhead is how many Pods are placed by one look at the cluster, in several transactions: a look at thousands of nodes and
	// all Pods on them takes as long as placing hundreds.
	lookAhead = 10 * perTransaction
	// retry is the pause after a pass that could not be written.
	retry = time.Second
)

// Run binds Pods until ctx ends. It is a duty of the leader. A Pod that fits nowhere is looked at again when a node changes
// in a way that matters, or when a Pod leaves one.
func Run(ctx context.Context, s *state.Store, log *slog.Logger, m *Metrics) error {
	r := &runner{store: s, log: log, metrics: m, remembered: newMemo(), parked: map[types.UID]int64{}, wake: make(chan struct{}, 1)}
	g, ctx := errgroup.WithContext(ctx)
	from := s.View().Version
	r.signalFreed()
	g.Go(func() error { return follow(ctx, r, from, r.podChanged) })
	g.Go(func() error { return follow(ctx, r, from, r.nodeChanged) })
	g.Go(func() error { return r.loop(ctx) })
	return g.Wait()
}

type runner struct {
	store      *state.Store
	log        *slog.Logger
	metrics    *Metrics
	remembered *memo

	// parked is the Pods that fit nowhere, by uid, with the generation that did not. It belongs to loop, as does seen.
	parked map[types.UID]int64
	seen   look

	wake  chan struct{} // capacity 1: a token, not a queue
	mu    sync.Mutex
	freed bool // parked Pods may fit now; guarded by mu
}

// signalFreed asks for a pass over the parked Pods, too: there may be room for them now.
func (r *runner) signalFreed() {
	r.mu.Lock()
	r.freed = true
	r.mu.Unlock()
	r.signal()
}

// signal asks for a pass.
func (r *runner) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *runner) takeFreed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	freed := r.freed
	r.freed = false
	return freed
}

// follow calls changed for every change of T.
func follow[T object.Object](ctx context.Context, r *runner, after state.Version, changed func(state.Change[T])) error {
	feed := state.Changes[T](r.store, after)
	buf := make([]state.Change[T], 64)
	for {
		n, err := feed.Next(ctx, buf)
		if errors.Is(err, state.ErrCompacted) {
			feed = state.Changes[T](r.store, r.store.View().Version)
			r.signalFreed()
			continue
		}
		if err != nil {
			return err
		}
		for _, c := range buf[:n] {
			changed(c)
		}
	}
}

func (r *runner) podChanged(c state.Change[*corev1.Pod]) {
	switch {
	case c.Old != nil && c.Old.Spec.NodeName != "" && !finished(c.Old) && (c.New == nil || finished(c.New)):
		r.signalFreed()
	case c.New == nil && c.Old.Spec.NodeName == "": // One that is parked, maybe.
		r.signal()
	case c.New != nil && wantsNode(c.New) && (c.Old == nil || c.Old.Generation != c.New.Generation || !wantsNode(c.Old)):
		r.signal()
	}
}

func (r *runner) nodeChanged(c state.Change[*corev1.Node]) {
	if c.Old == nil || c.New == nil || nodeMatters(c.Old, c.New) {
		r.signalFreed()
	}
}

// nodeMatters says whether a Pod may fit on the new node that did not on the old one, or fail for another reason.
func nodeMatters(before, after *corev1.Node) bool {
	return ready(before) != ready(after) ||
		before.Spec.Unschedulable != after.Spec.Unschedulable ||
		!maps.Equal(before.Labels, after.Labels) ||
		!slices.EqualFunc(before.Spec.Taints, after.Spec.Taints, func(a, b corev1.Taint) bool {
			return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
		}) ||
		!apiequality.Semantic.DeepEqual(before.Status.Allocatable, after.Status.Allocatable)
}

func (r *runner) loop(ctx context.Context) error {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause := gather
		if err := r.pass(ctx); err != nil {
			if ctx.Err() != nil || errors.Is(err, state.ErrNotLeader) {
				return err
			}
			r.log.Warn("Pods not bound; trying again", "err", err, "in", retry)
			r.signalFreed()
			pause = retry
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pass places every Pod that wants a node and is not parked.
func (r *runner) pass(ctx context.Context) error {
	if r.takeFreed() {
		clear(r.parked)
	}
	for {
		start := time.Now()
		result, more, err := r.batch(ctx)
		if err != nil {
			return err
		}
		r.report(result, time.Since(start))
		if !more {
			return nil
		}
	}
}

// look is what one look at the cluster has found and nobody has dealt with yet.
type look struct {
	view    *View
	wanting []*corev1.Pod
	more    bool // of those that want a node than wanting
}

// look sees which Pods want a node, and drops from parked those that do no longer.
func (r *runner) look() {
	snap, parked := r.store.View(), map[types.UID]int64{}
	wanting := pending(snap, func(p *corev1.Pod) bool {
		generation, ok := r.parked[p.UID]
		if ok = ok && generation == p.Generation; ok {
			parked[p.UID] = generation
		}
		return ok
	})
	r.parked, r.seen = parked, look{more: len(wanting) > lookAhead, wanting: wanting[:min(len(wanting), lookAhead)]}
	if len(wanting) > 0 {
		r.remembered.turn()
		r.seen.view = newView(snap, r.remembered)
	}
}

// batch places one transaction's worth of Pods. more says whether some were left for the next. What has changed since the last
// look, of the Pods themselves or of a node that gets one, is a conflict, and then it looks again.
func (r *runner) batch(ctx context.Context) (result Result, more bool, err error) {
	if len(r.seen.wanting) == 0 {
		r.look()
	}
	current := true
	var now []*corev1.Pod
	_, err = r.store.Update(ctx, func(tx *state.Txn) error {
		if !current {
			r.look()
		}
		current = false
		now = r.seen.wanting[:min(len(r.seen.wanting), perTransaction)]
		if result = (Result{}); len(now) > 0 {
			result = bind(tx, r.seen.view, now, time.Now())
		}
		return nil
	})
	if err != nil {
		r.seen = look{}
		return Result{}, false, fmt.Errorf("bind: %w", err)
	}
	r.seen.wanting = r.seen.wanting[len(now):]
	for _, u := range result.Unschedulable {
		r.parked[u.Pod.UID] = u.Pod.Generation
	}
	if more = r.seen.more || len(r.seen.wanting) > 0; !more {
		r.seen = look{} // holds a whole snapshot
	}
	return result, more, nil
}

func (r *runner) report(result Result, took time.Duration) {
	r.metrics.waiting.Set(float64(len(r.parked)))
	if result.empty() {
		return
	}
	r.metrics.passes.Observe(took.Seconds())
	r.metrics.bound.Add(float64(result.Bound))
	r.log.Debug("pass", "bound", result.Bound, "unschedulable", len(result.Unschedulable), "took", took)
}
