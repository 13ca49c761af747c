package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const (
	// urgentGap and calmGap bound how often statuses are sent; the first after a quiet time goes at once.
	urgentGap = 100 * time.Millisecond
	calmGap   = time.Second
)

// urgency is how soon a status must be sent.
type urgency int

const (
	calm urgency = iota
	urgent
)

// reporter brings statuses to a server: the latest of each Pod wins, and what could not be sent is sent again unless
// something newer took its place.
type reporter struct {
	node   string
	client *link.Client
	log    *slog.Logger
	// acknowledged is called for each Pod whose removal a server has made durable.
	acknowledged func(types.UID)
	// lost is called with each error a server answers with.
	lost func(error)

	mu       sync.Mutex
	statuses map[types.UID]link.PodStatus // newest unsent; guarded by mu
	removed  map[types.UID]link.PodRef    // not yet acknowledged; guarded by mu
	status   *corev1.NodeStatus           // newest unsent; guarded by mu
	most     urgency                      // of what is unsent; guarded by mu
	wake     chan struct{}                // capacity 1: a token, not a queue
}

func newReporter(node string, client *link.Client, log *slog.Logger) *reporter {
	return &reporter{
		node: node, client: client, log: log, acknowledged: func(types.UID) {}, lost: func(error) {},
		statuses: map[types.UID]link.PodStatus{}, removed: map[types.UID]link.PodRef{}, wake: make(chan struct{}, 1),
	}
}

// set gives the newest status of a Pod.
func (r *reporter) set(s link.PodStatus, u urgency) {
	r.change(u, func() { r.statuses[s.UID] = s })
}

// remove says that nothing of a Pod is left on the node.
func (r *reporter) remove(ref link.PodRef) {
	r.change(urgent, func() {
		delete(r.statuses, ref.UID)
		r.removed[ref.UID] = ref
	})
}

// setNode gives the newest status of the node.
func (r *reporter) setNode(s *corev1.NodeStatus, u urgency) {
	r.change(u, func() { r.status = s })
}

// forget drops what is unsent about a Pod.
func (r *reporter) forget(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.statuses, uid)
	delete(r.removed, uid)
}

func (r *reporter) change(u urgency, fn func()) {
	r.mu.Lock()
	fn()
	r.most = max(r.most, u)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends.
func (r *reporter) run(ctx context.Context) error {
	var last time.Time
	var failed time.Duration
	for {
		if !r.await(ctx, last, failed) {
			return nil
		}
		report := r.take()
		last = time.Now()
		err := r.client.Report(ctx, report)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			r.putBack(report)
			r.lost(err)
			failed = double(failed, firstRetry, maxRetry)
			r.log.Debug("report not delivered", "err", err, "again", failed)
			continue
		}
		failed = 0
		for _, ref := range report.Removed {
			r.done(ref)
		}
	}
}

// await waits until there is something to send and it is time to.
func (r *reporter) await(ctx context.Context, last time.Time, failed time.Duration) bool {
	for {
		pending, u := r.pending()
		gap := max(calmGap, failed)
		if u == urgent {
			gap = max(urgentGap, failed)
		}
		var due <-chan time.Time
		if pending {
			wait := gap - time.Since(last)
			if last.IsZero() || wait <= 0 {
				return ctx.Err() == nil
			}
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return false
		case <-due:
		case <-r.wake:
		}
	}
}

func (r *reporter) pending() (bool, urgency) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.statuses)+len(r.removed) > 0 || r.status != nil, r.most
}

// take empties what is unsent into a report; removals stay until they are acknowledged.
func (r *reporter) take() link.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := link.Report{Node: r.node, NodeStatus: r.status, Statuses: r.statuses}
	for _, uid := range slices.Sorted(maps.Keys(r.removed)) {
		report.Removed = append(report.Removed, r.removed[uid])
	}
	r.statuses, r.status, r.most = map[types.UID]link.PodStatus{}, nil, calm
	return report
}

// putBack returns what a failed call carried, unless something newer has come.
func (r *reporter) putBack(report link.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, s := range report.Statuses {
		_, newer := r.statuses[uid]
		_, gone := r.removed[uid]
		if !newer && !gone {
			r.statuses[uid] = s
		}
	}
	if r.status == nil {
		r.status = report.NodeStatus
	}
	r.most = urgent
}

func (r *reporter) done(ref link.PodRef) {
	r.mu.Lock()
	delete(r.removed, ref.UID)
	r.mu.Unlock()
	r.acknowledged(ref.UID)
}

// urgencyOf is how soon the step from one status to another must be known.
func urgencyOf(before, after *corev1.PodStatus) urgency {
	if before.Phase != after.Phase || before.PodIP != after.PodIP || readyIn(before) != readyIn(after) {
		return urgent
	}
	for i := range after.ContainerStatuses {
		c := &after.ContainerStatuses[i]
		old := statusOf(before, c.Name)
		if old == nil || old.Ready != c.Ready || !apiequality.Semantic.DeepEqual(old.State.Terminated, c.State.Terminated) ||
			(old.State.Running == nil) != (c.State.Running == nil) || reasonOf(old) != reasonOf(c) {
			return urgent
		}
	}
	return calm
}

func readyIn(s *corev1.PodStatus) corev1.ConditionStatus {
	for i := range s.Conditions {
		if s.Conditions[i].Type == corev1.PodReady {
			return s.Conditions[i].Status
		}
	}
	return corev1.ConditionUnknown
}

func reasonOf(c *corev1.ContainerStatus) string {
	if c.State.Waiting == nil {
		return ""
	}
	return c.State.Waiting.Reason
}
