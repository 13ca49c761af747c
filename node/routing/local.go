package routing

import (
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// forgetAfter is how long a Pod that is no more is remembered: until then servers have noticed, or it does not matter.
const forgetAfter = 10 * time.Minute

// Local is what a node knows of a Pod of its own before any server does, and when none can be heard.
type Local struct {
	Ready   bool
	Address string // empty: not known
}

// locals are this node's Pods. Safe for concurrent use.
type locals struct {
	wake chan struct{}

	mu      sync.Mutex
	pods    map[types.UID]Local     // guarded by mu
	gone    map[types.UID]time.Time // since when; guarded by mu
	changed map[types.UID]bool      // since takeChanged; guarded by mu
}

func newLocals(wake chan struct{}) *locals {
	return &locals{wake: wake, pods: map[types.UID]Local{}, gone: map[types.UID]time.Time{}, changed: map[types.UID]bool{}}
}

// SetLocal says how a Pod of this node is. Until the first call of it, a server's word is all there is.
func (f *Follower) SetLocal(uid types.UID, now Local) { f.local.set(uid, now, time.Time{}) }

// EndLocal says that a Pod of this node is no more.
func (f *Follower) EndLocal(uid types.UID) { f.local.set(uid, Local{}, time.Now()) }

func (l *locals) set(uid types.UID, now Local, gone time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.gone, uid)
	if !gone.IsZero() {
		l.gone[uid] = gone
	}
	if was, known := l.pods[uid]; known && was == now {
		return
	}
	l.pods[uid] = now
	l.changed[uid] = true
	l.nudge()
}

func (l *locals) nudge() { nudge(l.wake) }

// nudge has the Follower look.
func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

func (l *locals) takeChanged() map[types.UID]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.changed
	l.changed = map[types.UID]bool{}
	return changed
}

func (l *locals) forgetOld(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, since := range l.gone {
		if now.Sub(since) > forgetAfter {
			delete(l.gone, uid)
			delete(l.pods, uid)
		}
	}
}

// correct returns s with what this node knows of its own Pods: they are ready as they are here, not as was last reported.
// That a Pod is terminating is for servers to say. s itself is returned if it is right, and never changed.
func (l *locals) correct(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	l.mu.Lock()
	defer l.mu.Unlock()
	var corrected *discoveryv1.EndpointSlice
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.TargetRef == nil {
			continue
		}
		pod, known := l.pods[e.TargetRef.UID]
		if !known || agrees(e, pod) {
			continue
		}
		if corrected == nil {
			corrected = s.DeepCopy()
		}
		e = &corrected.Endpoints[i]
		serving, ready := pod.Ready, pod.Ready && !isTrue(e.Conditions.Terminating)
		e.Conditions.Serving, e.Conditions.Ready = &serving, &ready
		if pod.Address != "" {
			e.Addresses = []string{pod.Address}
		}
	}
	if corrected == nil {
		return s
	}
	return corrected
}

func agrees(e *discoveryv1.Endpoint, pod Local) bool {
	return isTrue(e.Conditions.Serving) == pod.Ready && isTrue(e.Conditions.Ready) == (pod.Ready && !isTrue(e.Conditions.Terminating)) &&
		(pod.Address == "" || len(e.Addresses) == 1 && e.Addresses[0] == pod.Address)
}

func isTrue(b *bool) bool { return b != nil && *b }
