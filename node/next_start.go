package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// nextStart finds the container to start next and what it still needs: its image, a sandbox, nothing. An image that is not
// to be had holds up no container but those that run it, and what waits for them.
func nextStart(d desired, o *observed) action {
	c, again := due(d, o)
	if at, _ := deadline(d, o); !at.IsZero() {
		again = earlier(again, at)
	}
	if c == nil {
		return action{Verb: idle, Again: again}
	}
	n := nextAttempt(o, c.Name)
	switch {
	case !imagePresent(o, c):
		return action{Verb: pullImage, Container: c.Name, Attempt: n}
	case o.Sandbox.Running:
		return action{Verb: startOne, Container: c.Name, Attempt: n}
	case o.SandboxHold.holds(o.Now):
		return action{Verb: idle, Again: earlier(again, o.SandboxHold.Until)}
	default:
		return action{Verb: makeSandbox}
	}
}

// imagePresent reports whether the image of the container's next attempt was made present for just that attempt.
func imagePresent(o *observed, c *corev1.Container) bool {
	return o.track(c.Name).Image.ID != "" && o.track(c.Name).Image.Ref == c.Image && o.track(c.Name).Image.Attempt == nextAttempt(o, c.Name)
}

// nextAttempt numbers the next start. One that was created and never started is started under its own number.
func nextAttempt(o *observed, name string) int {
	if last := o.latest(name); last != nil {
		if last.State == runtime.Created {
			return last.Attempt
		}
		return last.Attempt + 1
	}
	if known := statusOf(&o.Last, name); known != nil && known.ContainerID != "" {
		return int(known.RestartCount) + 1
	}
	return 0
}

// due returns the container to start now, or nil and when to ask again.
func due(d desired, o *observed) (*corev1.Container, time.Time) {
	var again time.Time
	begun := appsBegun(d, o)
	if !begun && !anyWantsStart(d, o) {
		return nil, again // what still runs without a sandbox is left to end
	}
	for i := range d.Pod.Spec.InitContainers {
		c := &d.Pod.Spec.InitContainers[i]
		last := o.latest(c.Name)
		if begun && !sidecar(c) || initDone(o, c, last) {
			continue
		}
		if !(last.alive() && o.here(last)) {
			at := startsAt(o, c)
			if !at.After(o.Now) {
				return c, time.Time{}
			}
			again = earlier(again, at)
		}
		if !begun {
			return nil, again
		}
	}
	for i := range d.Pod.Spec.Containers {
		c := &d.Pod.Spec.Containers[i]
		if !wantsStart(d, o, o.latest(c.Name)) {
			continue
		}
		at := startsAt(o, c)
		if !at.After(o.Now) {
			return c, time.Time{}
		}
		again = earlier(again, at)
	}
	return nil, again
}

// appsBegun reports whether initialisation is over: an app container was started in this sandbox.
func appsBegun(d desired, o *observed) bool {
	for i := range d.Pod.Spec.Containers {
		if o.here(o.latest(d.Pod.Spec.Containers[i].Name)) {
			return true
		}
	}
	return false
}

func anyWantsStart(d desired, o *observed) bool {
	for i := range d.Pod.Spec.Containers {
		if wantsStart(d, o, o.latest(d.Pod.Spec.Containers[i].Name)) {
			return true
		}
	}
	return false
}

// initDone reports whether what comes after an init container may start.
func initDone(o *observed, c *corev1.Container, last *attempt) bool {
	if last == nil || !o.here(last) {
		return false
	}
	if sidecar(c) {
		return last.alive() && o.healthOf(last).Started
	}
	return last.State == runtime.Exited && last.ExitCode == 0
}

// wantsStart reports whether an app container should run and does not.
func wantsStart(d desired, o *observed, last *attempt) bool {
	switch {
	case last == nil, last.State == runtime.Created:
		return true
	case last.alive():
		return !o.here(last) && d.Pod.Spec.RestartPolicy != corev1.RestartPolicyNever
	default:
		return restarts(d.Pod, last)
	}
}

// startsAt is when a container that should run may be started.
func startsAt(o *observed, c *corev1.Container) time.Time {
	t := o.track(c.Name)
	at := time.Time{}
	if t.Hold.holds(o.Now) {
		at = shownUntil(t.Hold, o.Now)
	}
	if last := o.latest(c.Name); last != nil && last.State == runtime.Exited && !o.taken(last) && !outdated(last, c) {
		if end := last.ended().Add(t.Backoff.wait(last.ran())); end.After(at) {
			at = end
		}
	}
	return at
}

// ran is how long an attempt that has ended was running.
func (a *attempt) ran() time.Duration {
	if a.Started.IsZero() || a.Finished.IsZero() {
		return 0
	}
	return a.Finished.Sub(a.Started)
}

// shownUntil is when a problem ends or is shown differently.
func shownUntil(p problem, now time.Time) time.Time {
	if changes := p.Since.Add(pullShownAs); p.Reason == reasonErrImagePull && changes.After(now) {
		return earlier(changes, p.Until)
	}
	return p.Until
}

// earlier is the first of two moments; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
