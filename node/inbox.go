package node

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// inbox holds what a worker has not taken in yet. Everything is the newest of its kind: nothing queues.
type inbox struct {
	pod     *corev1.Pod // nil: no change
	gone    bool
	seen    uint64 // number of the newest look; 0 for none yet
	engine  runtime.Pod
	results []result
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
	news := w.hungry || w.seen == nil || !sameLook(w.seen, &p)
	w.seen = &p
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

// takeIn empties the inbox into what is known.
func (w *worker) takeIn(now time.Time) {
	w.mu.Lock()
	in := w.inbox
	w.inbox = inbox{}
	if in.seen > 0 && in.seen < w.need {
		w.seen = nil // it is older than what we did: whatever the next look shows is news
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
		case o.taken(before):
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
