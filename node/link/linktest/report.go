package linktest

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// urgentGap is that of a real agent's reports.
const urgentGap = 100 * time.Millisecond

// SetReady makes a Pod Ready, and has that reported with a message of the caller's. An unknown uid changes nothing.
func (a *Agent) SetReady(uid types.UID, message string) { a.set(uid, corev1.ConditionTrue, message) }

// SetNotReady is its opposite.
func (a *Agent) SetNotReady(uid types.UID, message string) {
	a.set(uid, corev1.ConditionFalse, message)
}

func (a *Agent) set(uid types.UID, ready corev1.ConditionStatus, message string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pods[uid]; p != nil {
		p.set(ready, message, time.Now())
		a.unsent[uid] = true
		a.signal()
	}
}

// ReadyPods lists the Pods that are Ready, in no order.
func (a *Agent) ReadyPods() (uids []types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid, p := range a.pods {
		if p.ready {
			uids = append(uids, uid)
		}
	}
	return uids
}

func (a *Agent) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// report sends what is unsent, urgentGap apart. What could not be sent is sent again.
func (a *Agent) report(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-a.wake:
		case <-ctx.Done():
			return
		}
		report, empty := a.take()
		if empty {
			continue
		}
		if err := a.post(ctx, link.PathReport, report, nil); err != nil {
			a.putBack(report)
			a.pause(ctx, err)
			continue
		}
		a.acknowledged(report)
		select {
		case <-time.After(urgentGap):
		case <-ctx.Done():
		}
	}
}

func (a *Agent) take() (r link.Report, empty bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r = link.Report{Node: a.Name, Statuses: make(map[types.UID]link.PodStatus, len(a.unsent))}
	for uid := range a.unsent {
		r.Statuses[uid] = link.PodStatus{PodRef: a.pods[uid].ref, Status: a.pods[uid].status()}
	}
	clear(a.unsent)
	for _, ref := range a.removed {
		r.Removed = append(r.Removed, ref)
	}
	return r, len(r.Statuses)+len(r.Removed) == 0
}

func (a *Agent) putBack(r link.Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid := range r.Statuses {
		if a.pods[uid] != nil {
			a.unsent[uid] = true
		}
	}
	a.signal()
}

func (a *Agent) acknowledged(r link.Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ref := range slices.Clone(r.Removed) {
		delete(a.removed, ref.UID)
	}
}
