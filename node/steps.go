package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// An engine that takes longer hangs; the step is given up and repeated.
	engineTimeout = 2 * time.Minute
	// pullTimeout ends a pull that makes no progress anybody would wait for.
	pullTimeout = 15 * time.Minute
	// pullNoticed is when making an image present has become a pull that is worth an Event.
	pullNoticed = time.Second
)

// begin carries out an action beside run, which hears of its end by done.
func (w *worker) begin(ctx context.Context, a action, done chan<- step) {
	ctx, cancel := context.WithCancelCause(ctx)
	switch a.Verb {
	case pullImage, makeSandbox, startOne, runHook:
		w.mu.Lock()
		w.cancel = cancel
		if w.inbox.gone || w.inbox.pod != nil && w.inbox.pod.DeletionTimestamp != nil {
			cancel(errSuperseded) // it came while we decided
		}
		w.mu.Unlock()
	}
	do := w.prepare(a)
	go func() {
		defer cancel(nil)
		effect, err := do(ctx)
		done <- step{action: a, effect: effect, err: err}
	}()
}

// end takes the outcome of a step in.
func (w *worker) end(s step) {
	w.mu.Lock()
	w.cancel = nil
	w.mu.Unlock()
	w.metrics.actions.WithLabelValues(string(s.action.Verb), outcome(s.err)).Inc()
	w.known.Now = time.Now()
	if s.effect != nil {
		s.effect(w.known)
	}
	if s.err == nil {
		w.failed, w.retry = 0, time.Time{}
		return
	}
	w.lookFirst()
	if errors.Is(s.err, errSuperseded) {
		return
	}
	if s.effect == nil { // no effect has said when to try again
		w.failed = double(w.failed, firstRetry, maxRetry)
		w.retry = time.Now().Add(w.failed)
	}
	w.log.Debug("step not done", "action", s.action.Verb, "container", s.action.Container, "err", s.err)
}

// lookFirst forbids steps until a look has shown what became of the last one.
func (w *worker) lookFirst() { w.need, w.blind = w.looker.request(), true }

// effect is what a step changes in what is known.
type effect = func(o *observed)

// prepare turns an action into what is to be done beside run. It takes along copies of all it needs.
func (w *worker) prepare(a action) func(context.Context) (effect, error) {
	pod, c := w.desired.Pod, containerOf(w.desired.Pod, a.Container)
	switch a.Verb {
	case pullImage:
		return func(ctx context.Context) (effect, error) { return w.pull(ctx, pod, c, a.Attempt) }
	case makeSandbox:
		return func(ctx context.Context) (effect, error) { return w.sandbox(ctx, pod) }
	case startOne:
		s := w.startOf(pod, c, a.Attempt)
		return func(ctx context.Context) (effect, error) { return w.start(ctx, s) }
	case runHook:
		t := w.targetOf(c, a.ID)
		return func(ctx context.Context) (effect, error) { return w.postStart(ctx, pod, t) }
	case killOne:
		v := victim{target: w.targetOf(c, a.ID), State: w.known.find(a.ID).State, Message: a.Message}
		return w.thenLook(func(ctx context.Context) error { return w.stop(ctx, pod, v, a.Grace) })
	case killAll:
		victims := w.victims()
		return w.thenLook(func(ctx context.Context) error { return w.stopAll(ctx, pod, victims, a.Grace) })
	case unpause:
		return w.thenLook(func(ctx context.Context) error { return w.rt.UnpauseContainer(ctx, a.ID) })
	case prune:
		return w.thenLook(func(ctx context.Context) error { return w.rt.RemoveContainer(ctx, a.ID) })
	case removePod:
		return func(ctx context.Context) (effect, error) { return w.remove(ctx, pod) }
	default:
		panic("node: no step for action " + string(a.Verb))
	}
}

// thenLook wraps a step whose outcome only a look shows.
func (w *worker) thenLook(do func(context.Context) error) func(context.Context) (effect, error) {
	return func(ctx context.Context) (effect, error) {
		if err := do(ctx); err != nil {
			return nil, err
		}
		return func(*observed) { w.lookFirst() }, nil
	}
}

func containerOf(pod *corev1.Pod, name string) *corev1.Container {
	for c := range containers(pod) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// victims are all attempts that have a process.
func (w *worker) victims() []victim {
	var all []*corev1.Container
	for c := range containers(w.desired.Pod) {
		all = append(all, c)
	}
	for name := range w.known.Attempts {
		if containerOf(w.desired.Pod, name) == nil { // the Pod as its labels have it cannot be read
			all = append(all, &corev1.Container{Name: name})
		}
	}
	var victims []victim
	for _, c := range all {
		for _, a := range w.known.Attempts[c.Name] {
			if a.alive() && a.ID != "" {
				victims = append(victims, victim{target: w.targetOf(c, a.ID), State: a.State, Message: "Stopping container " + c.Name})
			}
		}
	}
	return victims
}

// pull makes the image of a container's next attempt present.
func (w *worker) pull(ctx context.Context, pod *corev1.Pod, c *corev1.Container, n int) (effect, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, pullTimeout, fmt.Errorf("pulling image %q took longer than %s", c.Image, pullTimeout))
	defer cancel()
	begun := time.Now()
	noticed := time.AfterFunc(pullNoticed, func() { w.recorder.normal(pod, c.Name, "Pulling", fmt.Sprintf("Pulling image %q", c.Image)) })
	id, err := w.rt.EnsureImage(ctx, c.Image, c.ImagePullPolicy)
	quick := noticed.Stop()
	if err != nil {
		if stopped := cancelled(ctx, err); stopped != nil {
			return nil, stopped
		}
		p := pullProblem(c, err)
		w.recorder.warning(pod, c.Name, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.Image, p.Message))
		w.recorder.warning(pod, c.Name, "Failed", "Error: "+p.Reason)
		return func(o *observed) { hold(o, &o.track(c.Name).Hold, p, firstBackoff, maxBackoff) }, err
	}
	message := fmt.Sprintf("Container image %q is present on machine", c.Image)
	if !quick || c.ImagePullPolicy == corev1.PullAlways {
		message = fmt.Sprintf("Successfully pulled image %q in %s", c.Image, time.Since(begun).Round(time.Millisecond))
	}
	w.recorder.normal(pod, c.Name, "Pulled", message)
	return func(o *observed) {
		t := o.track(c.Name)
		t.Image = image{Ref: c.Image, ID: id, Attempt: n}
		if pulling(t.Hold.Reason) {
			t.Hold = problem{}
		}
	}, nil
}

func pulling(reason string) bool {
	return reason == reasonErrImagePull || reason == reasonImageNeverPull
}

func pullProblem(c *corev1.Container, err error) problem {
	if errors.Is(err, runtime.ErrImageNeverPull) {
		return problem{Reason: reasonImageNeverPull, Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)}
	}
	return problem{Reason: reasonErrImagePull, Message: pullMessage(err)}
}

// pullMessage is why a pull failed, in the engine's words.
func pullMessage(err error) string {
	if failed := new(runtime.ImageError); errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}

// hold keeps a step from being tried again at once: the longer, the more often it failed for the same reason.
func hold(o *observed, at *problem, p problem, first, most time.Duration) {
	p.Since = o.Now
	if at.Reason == p.Reason {
		p.Delay = at.Delay
	}
	p.Delay = double(p.Delay, first, most)
	p.Until = o.Now.Add(p.Delay)
	*at = p
}

// cancelled returns why a step was ended from outside, nil if it was not.
func cancelled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSuperseded) || errors.Is(cause, context.Canceled) {
		return cause
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sandbox makes the Pod's sandbox run.
func (w *worker) sandbox(ctx context.Context, pod *corev1.Pod) (effect, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, engineTimeout, errEngineSilent)
	defer cancel()
	if err := w.slots.acquire(ctx, &w.slots.sandboxes); err != nil {
		return nil, err
	}
	defer w.slots.release()
	got, err := w.rt.EnsureSandbox(ctx, pod)
	if err == nil {
		return func(o *observed) {
			o.Sandbox, o.SandboxHold = got, problem{}
			w.need = w.looker.fence()
			if o.anyAlive() { // what shared the old one is being killed
				w.recorder.normal(pod, "", "SandboxChanged", "Pod sandbox changed: its containers were ended and start anew in another"+at(got.IP))
				w.lookFirst()
			}
		}, nil
	}
	if stopped := cancelled(ctx, err); stopped != nil {
		return nil, stopped
	}
	if errors.Is(err, runtime.ErrNotConfigured) {
		return nil, err // it will be, as soon as a server has answered
	}
	w.recorder.warning(pod, "", "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
	return func(o *observed) {
		hold(o, &o.SandboxHold, problem{Reason: "FailedCreatePodSandBox", Message: err.Error()}, firstRetry, maxRetry)
	}, err
}

func at(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return " at " + address.String()
}

// remove takes away everything that is left of the Pod.
func (w *worker) remove(ctx context.Context, pod *corev1.Pod) (effect, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, engineTimeout, errEngineSilent)
	defer cancel()
	if err := w.rt.RemovePod(ctx, w.ref.UID); err != nil {
		if cancelled(ctx, err) == nil {
			w.recorder.warning(pod, "", "FailedKillPod", "error killing pod: "+err.Error())
		}
		return nil, err
	}
	return func(o *observed) { o.Removed = true }, nil
}

// postStart runs the hook of an attempt that has just started; one that fails has the attempt replaced.
func (w *worker) postStart(ctx context.Context, pod *corev1.Pod, t target) (effect, error) {
	err := hook(ctx, w.rt, t.Container.Lifecycle.PostStart, t)
	if err != nil {
		if stopped := cancelled(ctx, err); stopped != nil {
			return nil, stopped
		}
		w.recorder.warning(pod, t.Container.Name, "FailedPostStartHook", "PostStartHook failed")
	}
	return func(o *observed) {
		track := o.track(t.Container.Name)
		track.Hook = 0
		if err != nil && track.Health.ID == t.ID {
			track.Health.Sick = &sickness{Message: "FailedPostStartHook"}
		}
	}, nil
}

// startOf gathers what starting one attempt takes.
func (w *worker) startOf(pod *corev1.Pod, c *corev1.Container, n int) start {
	s := start{pod: pod, container: c, attempt: n, image: w.known.track(c.Name).Image.ID, sandbox: w.known.Sandbox, config: w.known.Config}
	if last := w.known.latest(c.Name); last != nil {
		if last.SpecHash == runtime.ContainerHash(c) {
			s.env = slices.Clone(last.Env)
		}
	}
	s.sources = sources{Pod: pod, HostIPs: w.hostIPs, Allocatable: maps.Clone(w.allocatable)}
	if s.sandbox.IP.IsValid() {
		s.sources.PodIP = s.sandbox.IP.String()
	}
	return s
}

// configOf asks a server what a Pod's environment refers to.
func (w *worker) configOf(ctx context.Context) (link.ConfigResponse, error) {
	return w.client.Config(ctx, link.ConfigRequest{Node: w.node, Pod: w.ref})
}
