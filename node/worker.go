package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/mainstay-cluster/mainstay/node/link"
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
	seen    runtime.Pod             // the newest look; guarded by mu
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
	probers map[string]context.CancelFunc
	probing sync.WaitGroup
}

// inbox holds what a worker has not taken in yet. Everything is the newest of its kind: nothing queues.
type inbox struct {
	pod     *corev1.Pod // nil: no change
	gone    bool
	seen    uint64 // number of the newest look; 0 for none yet
	engine  runtime.Pod
	results []result
}

// newWorker is the worker of a Pod that a server has assigned.
func newWorker(t *tools, pod *corev1.Pod) *worker {
	w := &worker{
		tools: t, log: t.log.With("pod", pod.Namespace+"/"+pod.Name),
		ref:  link.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		wake: make(chan struct{}, 1), settled: make(chan struct{}),
		desired: desired{Pod: pod}, known: newObserved(), probers: map[string]context.CancelFunc{},
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

// tell changes the inbox.
func (w *worker) tell(change func(*inbox)) {
	w.mu.Lock()
	change(&w.inbox)
	if w.cancel != nil && (w.inbox.gone || w.inbox.pod != nil && w.inbox.pod.DeletionTimestamp != nil) {
		w.cancel(errSuperseded)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// assign gives the Pod as the server wants it.
func (w *worker) assign(pod *corev1.Pod) { w.tell(func(in *inbox) { in.pod, in.gone = pod, false }) }

// dismiss says that the server does not know the Pod any more.
func (w *worker) dismiss() { w.tell(func(in *inbox) { in.gone = true }) }

// see gives what a look showed of the Pod, nothing being a zero Pod. It wakes the worker only if that is news.
func (w *worker) see(number uint64, p runtime.Pod) {
	w.mu.Lock()
	w.inbox.seen, w.inbox.engine = number, p
	news := w.hungry || !sameLook(&w.seen, &p)
	w.seen = p
	w.mu.Unlock()
	if news {
		w.tell(func(*inbox) {})
	}
}

// sameLook reports whether two looks at a Pod show the same.
func sameLook(a, b *runtime.Pod) bool {
	return a.Sandbox == b.Sandbox && slices.EqualFunc(a.Containers, b.Containers, func(x, y runtime.Container) bool {
		return x.ID == y.ID && x.State == y.State && x.Started.Equal(y.Started) && x.Finished.Equal(y.Finished) &&
			x.ExitCode == y.ExitCode && x.OOMKilled == y.OOMKilled && x.Message == y.Message
	})
}

// hear gives a probe's result.
func (w *worker) hear(r result) { w.tell(func(in *inbox) { in.results = append(in.results, r) }) }

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

// takeIn empties the inbox into what is known.
func (w *worker) takeIn(now time.Time) {
	w.mu.Lock()
	in := w.inbox
	w.inbox = inbox{}
	if in.seen < w.need {
		w.seen = runtime.Pod{} // it is older than what we did: whatever the next look shows is news
	}
	w.mu.Unlock()
	o := w.known
	o.Now = now
	if in.pod != nil {
		w.takePod(in.pod)
	}
	if in.gone && !w.desired.Gone {
		w.desired.Gone, w.retry = true, time.Time{}
	}
	if in.seen > 0 && in.seen >= w.need {
		o.merge(in.engine)
		w.blind = false
		w.inspect()
	}
	for _, r := range in.results {
		w.takeResult(r)
	}
}

// takePod takes in the Pod as the server has it. What the server knows of its past is the start of what we report.
func (w *worker) takePod(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil && w.desired.Pod.DeletionTimestamp == nil {
		w.retry = time.Time{}
	}
	for c := range containers(pod) {
		if old := containerOf(w.desired.Pod, c.Name); old != nil && old.Image != c.Image {
			w.known.track(c.Name).Hold = problem{}
		}
	}
	w.desired = desired{Pod: pod}
	if w.heard {
		keepForeign(&w.known.Last, &pod.Status)
		return
	}
	w.heard = true
	w.known.Last = *pod.Status.DeepCopy()
	if pod.Status.StartTime != nil {
		w.known.Start = pod.Status.StartTime.Time
	}
	w.recallHealth()
}

// recallHealth lets what the server remembers of a running attempt stand until its probes have answered here.
func (w *worker) recallHealth() {
	for c := range containers(w.desired.Pod) {
		last, h := w.known.latest(c.Name), &w.known.track(c.Name).Health
		if last == nil || h.ID == "" || h.ID != last.ID {
			continue
		}
		recalled := newHealth(c, last, &w.known.Last)
		if recalled.Started && !h.Started {
			h.Started = true
			w.endProbes(h.ID) // they begin again, with startup behind them
		}
		if !h.Probed {
			h.Ready = recalled.Ready
		}
	}
}

// keepForeign takes over the conditions that others than the agent have set.
func keepForeign(last, server *corev1.PodStatus) {
	var conditions []corev1.PodCondition
	for _, c := range last.Conditions {
		if ours(c.Type) {
			conditions = append(conditions, c)
		}
	}
	for _, c := range server.Conditions {
		if !ours(c.Type) {
			conditions = append(conditions, c)
		}
	}
	last.Conditions = conditions
}

// inspect brings the tracks in line with a fresh look.
func (w *worker) inspect() {
	o := w.known
	for c := range containers(w.desired.Pod) {
		last := o.latest(c.Name)
		if last == nil || last.ID == "" || last.Unseen {
			continue
		}
		t := o.track(c.Name)
		if t.Health.ID == last.ID {
			continue
		}
		switch before := o.previous(c.Name); {
		case t.Health.ID == "" && w.adopted:
			t.Backoff = recall(before, last)
		case before == nil || before.SpecHash != last.SpecHash:
			t.Backoff = backoff{}
		default:
			t.Backoff = t.Backoff.after(before.ran())
		}
		if last.failedStart() {
			t.Hold = problem{} // the attempt itself tells why, and back-off when
		}
		t.Health = newHealth(c, last, &o.Last)
	}
}

// newHealth is what is known of an attempt that was not seen before: what the server remembers of it, if anything.
func newHealth(c *corev1.Container, a *attempt, known *corev1.PodStatus) health {
	h := health{ID: a.ID, Started: c.StartupProbe == nil, Ready: c.ReadinessProbe == nil, Probed: c.ReadinessProbe == nil}
	if s := statusOf(known, c.Name); s != nil && s.ContainerID == containerIDPrefix+a.ID {
		h.Started = h.Started || isTrue(s.Started)
		h.Ready = h.Ready || s.Ready
	}
	return h
}

// publish makes a status of what is known and reports it if it is new.
func (w *worker) publish() {
	o := w.known
	if o.anyUnseen() {
		return // the look that tells its id is on its way
	}
	s := podStatus(w.desired, o)
	w.measure(&s)
	same := apiequality.Semantic.DeepEqual(o.Last, s)
	shown := *w.desired.Pod
	shown.Status = s
	w.mu.Lock()
	w.pod = &shown
	w.mu.Unlock()
	w.settle()
	if same || w.desired.Gone || !w.heard {
		return
	}
	w.recordBackoff(&o.Last, &s)
	u := urgencyOf(&o.Last, &s)
	o.Last = s
	w.reporter.set(link.PodStatus{PodRef: w.ref, Status: s}, u)
}

// recordBackoff makes Events of containers that have begun to wait.
func (w *worker) recordBackoff(before, after *corev1.PodStatus) {
	for c := range containers(w.desired.Pod) {
		s, old := statusOf(after, c.Name), statusOf(before, c.Name)
		if reasonOf(s) == "" || old != nil && reasonOf(old) == reasonOf(s) {
			continue
		}
		switch reasonOf(s) {
		case reasonCrashLoop, reasonRunError:
			w.recorder.warning(w.desired.Pod, c.Name, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, w.ref.Name, w.ref.Namespace, w.ref.UID))
		case reasonImagePullBackOff:
			w.recorder.normal(w.desired.Pod, c.Name, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
		}
	}
}

// settle closes settled as soon as every readiness probe of what runs has answered.
func (w *worker) settle() {
	select {
	case <-w.settled:
		return
	default:
	}
	for c := range containers(w.desired.Pod) {
		if last := w.known.latest(c.Name); last.alive() && !w.known.healthOf(last).Probed {
			return
		}
	}
	close(w.settled)
}

// measure observes how long the Pod took from its arrival until everything ran.
func (w *worker) measure(s *corev1.PodStatus) {
	if w.took || w.adopted {
		return
	}
	for i := range s.ContainerStatuses {
		if s.ContainerStatuses[i].State.Running == nil {
			return
		}
	}
	w.took = true
	w.metrics.starts.Observe(time.Since(w.known.Start).Seconds())
}
