package routing

import (
	"context"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// otherNodes is what the other nodes get to stop sending connections to a Pod, after this one has: they are told at the same
// time, and each needs a few milliseconds to change its rules.
const otherNodes = 250 * time.Millisecond

// drain is somebody who waits until no Service sends new connections to a Pod.
type drain struct {
	uid  types.UID
	done chan struct{} // closed when none does
	used bool          // some did, or did until a moment ago
}

// Drain returns when no Service sends new connections to a Pod of this node any more, or ctx ends: at once, if none does.
func (f *Follower) Drain(ctx context.Context, uid types.UID) {
	if !f.isKnown() {
		return
	}
	d := &drain{uid: uid, done: make(chan struct{})}
	f.mu.Lock()
	f.drains = append(f.drains, d)
	f.mu.Unlock()
	f.local.nudge()
	select {
	case <-d.done:
	case <-ctx.Done():
		return
	}
	if d.used {
		pause(ctx, otherNodes)
	}
}

// endDrains lets those go on whose Pod gets no new connections by the rules in place.
func (f *Follower) endDrains() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []*drain
	for _, d := range f.drains {
		sent, leaving := f.leadsTo(d.uid)
		d.used = d.used || sent || leaving // this node may have heard of it first
		if sent {
			left = append(left, d)
			continue
		}
		close(d.done)
	}
	f.drains = left
}

// leadsTo says whether a Service sends new connections to a Pod, and whether one has ceased to because the Pod ends.
func (f *Follower) leadsTo(uid types.UID) (sent, leaving bool) {
	for _, byName := range f.shown.Slices {
		for _, s := range byName {
			i := slices.IndexFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.TargetRef != nil && e.TargetRef.UID == uid })
			if i >= 0 {
				sent = sent || isTrue(s.Endpoints[i].Conditions.Ready)
				leaving = leaving || isTrue(s.Endpoints[i].Conditions.Terminating)
			}
		}
	}
	return sent, leaving
}
