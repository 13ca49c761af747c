package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/routing"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// errSuperseded ends a step that the Pod's removal has made pointless.
var errSuperseded = errors.New("the Pod is being removed")

// tools are what all workers share.
type tools struct {
	rt          runtime.Runtime
	client      *link.Client
	node        string
	hostIPs     []string
	allocatable corev1.ResourceList
	looker      *looker
	recorder    *recorder
	reporter    *reporter
	routes      *routing.Follower
	slots       *slots
	execs       chan struct{}
	metrics     *metrics
	log         *slog.Logger
	released    chan struct{} // closed when workers may act: a server was heard, or none answers
}

// worker brings one Pod to what is desired, one step at a time. run owns what it knows; the inbox is how others tell it more.
type worker struct {
	*tools
	log *slog.Logger
	ref link.PodRef

	mu      sync.Mutex
	inbox   inbox                   // guarded by mu
	pod     *corev1.Pod             // as desired, with what was last made of it all as its status; guarded by mu
	seen    *runtime.Pod            // the newest look, nil if any is news; guarded by mu
	hungry  bool                    // any look is news; guarded by mu
	cancel  context.CancelCauseFunc // ends the step in hand if a removal makes it pointless; nil if none is; guarded by mu
	wake    chan struct{}           // capacity 1: a token, not a queue
	settled chan struct{}           // closed when snapshot says all that can be known without acting

	// The rest belongs to run.
	desired desired
	known   *observed
	need    uint64    // the first look that shows what we did; older ones are ignored
	blind   bool      // no step may be taken before such a look has come
	retry   time.Time // not before then, since a step failed
	failed  time.Duration
	adopted bool // it was on the engine before this agent came
	heard   bool // a server has said what it wants of the Pod, so reports make sense
	took    bool // its start was measured
	probers map[string]probes
	probing sync.WaitGroup
}

// newWorker is the worker of a Pod that a server has assigned.
func newWorker(t *tools, pod *corev1.Pod) *worker {
	w := &worker{
		tools: t, log: t.log.With("pod", pod.Namespace+"/"+pod.Name),
		ref:  link.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		wake: make(chan struct{}, 1), settled: make(chan struct{}),
		desired: desired{Pod: pod}, known: newObserved(), probers: map[string]probes{},
	}
	w.pod, w.known.HostIPs = pod, t.hostIPs
	w.known.Start = time.Now()
	w.inbox.pod = pod
	return w
}

// newAdopter is the worker of a Pod that was found on the engine. It is desired as it was made, until a server says otherwise.
func newAdopter(t *tools, number uint64, found runtime.Pod) *worker {
	w := newWorker(t, found.Pod)
	w.adopted = true
	if !found.Sandbox.Created.IsZero() {
		w.known.Start = found.Sandbox.Created
	}
	w.inbox = inbox{seen: number, engine: found}
	return w
}

// snapshot is the Pod as it is wanted and as it is.
func (w *worker) snapshot() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// step is one action in hand; effect changes what is known, and only run calls it.
type step struct {
	action action
	effect func(o *observed)
	err    error
}

// run works until nothing will ever have to be done for the Pod, or ctx ends.
func (w *worker) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer w.probing.Wait()
	defer stop()
	done := make(chan step, 1)
	busy := false
	for {
		w.takeIn(time.Now())
		w.syncProbes(ctx)
		w.publish()
		again := time.Time{}
		if !busy && w.mayAct() {
			a := next(w.desired, w.known)
			switch {
			case a.Verb == finish:
				return
			case a.Verb == idle:
				again = a.Again
			case time.Now().Before(w.retry):
				again = w.retry
			default:
				busy = true
				w.begin(ctx, a, done)
			}
		}
		s, stepped := w.await(ctx, again, done)
		if ctx.Err() != nil {
			if busy && !stepped {
				<-done
			}
			return
		}
		if stepped {
			busy = false
			w.end(s)
		}
	}
}

// await waits until something changes, for a step to end, or for the time again.
func (w *worker) await(ctx context.Context, again time.Time, done <-chan step) (step, bool) {
	var due <-chan time.Time
	if !again.IsZero() {
		timer := time.NewTimer(time.Until(again))
		defer timer.Stop()
		due = timer.C
	}
	w.mu.Lock()
	w.hungry = w.blind || w.known.anyUnseen()
	if w.hungry && w.inbox.seen >= w.need && w.inbox.seen > 0 {
		w.mu.Unlock()
		return step{}, false // it came before we could say that we want it
	}
	w.mu.Unlock()
	released := w.released
	select {
	case <-released:
		released = nil // a closed channel wakes only once
	default:
	}
	select {
	case <-ctx.Done():
	case s := <-done:
		return s, true
	case <-w.wake:
	case <-due:
	case <-released:
	}
	return step{}, false
}

// mayAct reports whether what is known is good enough to act on.
func (w *worker) mayAct() bool {
	select {
	case <-w.released:
		return !w.blind
	default:
		return false
	}
}
