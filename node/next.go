package node

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// verb is what an action does.
type verb string

const (
	idle        verb = "idle"       // nothing to do before Again, or before something changes
	finish      verb = "finish"     // nothing will ever have to be done
	pullImage   verb = "pull"       // make Container's image present for Attempt
	makeSandbox verb = "sandbox"    // make the sandbox run
	startOne    verb = "start"      // start Attempt of Container
	runHook     verb = "postStart"  // run the postStart hook of attempt ID
	killOne     verb = "kill"       // stop attempt ID, gracefully
	killAll     verb = "kill-all"   // stop every container, gracefully
	unpause     verb = "unpause"    // thaw attempt ID
	prune       verb = "prune"      // remove the stopped attempt ID
	removePod   verb = "remove-pod" // remove what is left
)

const (
	// keptOfEach is how many attempts of a container are kept: the newest, and one for `logs --previous`.
	keptOfEach = 2
	// pullShownAs is how long a failed pull is shown as ErrImagePull before it becomes ImagePullBackOff.
	pullShownAs = 3 * time.Second
)

// action is one idempotent step towards what is desired.
type action struct {
	Verb      verb
	Container string
	Attempt   int
	ID        string
	Grace     time.Duration
	Message   string    // of the Killing event
	Again     time.Time // for idle; zero: when something changes
}

// next holds all policy: it names the one thing to do now for a Pod, given what is wanted and what is known.
func next(d desired, o *observed) action {
	if d.stop() {
		return nextToStop(d, o)
	}
	if finished(d, o) {
		if o.anyAlive() {
			return action{Verb: killAll, Grace: d.grace()}
		}
		return action{Verb: idle}
	}
	if a, ok := nextRepair(d, o); ok {
		return a
	}
	return nextStart(d, o)
}

func nextToStop(d desired, o *observed) action {
	switch {
	case o.Removed:
		return action{Verb: finish}
	case o.anyAlive():
		return action{Verb: killAll, Grace: d.grace()}
	default:
		return action{Verb: removePod}
	}
}

// finished reports whether the Pod has ended for good: what is over is never started again.
func finished(d desired, o *observed) bool {
	if p := o.Last.Phase; p == corev1.PodSucceeded || p == corev1.PodFailed {
		return true
	}
	if _, over := deadline(d, o); over {
		return true
	}
	if initFailed(d, o) {
		return true
	}
	for i := range d.Pod.Spec.Containers {
		last := o.latest(d.Pod.Spec.Containers[i].Name)
		if last == nil || last.State != runtime.Exited || restarts(d.Pod, last) {
			return false
		}
	}
	return true
}

// deadline is when activeDeadlineSeconds ends the Pod, zero for never.
func deadline(d desired, o *observed) (at time.Time, over bool) {
	seconds := d.Pod.Spec.ActiveDeadlineSeconds
	if seconds == nil || o.Start.IsZero() {
		return time.Time{}, false
	}
	at = o.Start.Add(time.Duration(*seconds) * time.Second)
	return at, !o.Now.Before(at)
}

// initFailed reports whether an init container failed that may not be repeated.
func initFailed(d desired, o *observed) bool {
	if d.Pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return false
	}
	for i := range d.Pod.Spec.InitContainers {
		c := &d.Pod.Spec.InitContainers[i]
		if last := o.latest(c.Name); !sidecar(c) && last != nil && last.State == runtime.Exited && last.ExitCode != 0 {
			return true
		}
	}
	return false
}

// restarts reports whether the Pod's policy lets an ended app container run again.
func restarts(pod *corev1.Pod, ended *attempt) bool {
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return ended.ExitCode != 0
	default:
		return true
	}
}

// sidecar reports whether an init container is one that runs on beside the app containers.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// nextRepair deals with what exists: frozen, sick, outdated or superfluous attempts, and hooks that are due.
func nextRepair(d desired, o *observed) (action, bool) {
	for c := range containers(d.Pod) {
		all := o.Attempts[c.Name]
		for i := range all {
			if a, ok := repair(d, o, c, &all[i]); ok {
				return a, true
			}
		}
		for i := 0; i < len(all)-keptOfEach; i++ {
			if a := &all[i]; !a.alive() && !a.Lost && a.ID != "" {
				return action{Verb: prune, Container: c.Name, ID: a.ID}, true
			}
		}
	}
	return action{}, false
}

func repair(d desired, o *observed, c *corev1.Container, a *attempt) (action, bool) {
	if !a.alive() || a.Unseen {
		return action{}, false
	}
	kill := action{Verb: killOne, Container: c.Name, Attempt: a.Attempt, ID: a.ID, Grace: d.grace()}
	newest := o.latest(c.Name).ID == a.ID
	switch sick := o.healthOf(a).Sick; {
	case a.State == runtime.Paused:
		return action{Verb: unpause, Container: c.Name, ID: a.ID}, true
	case !newest:
		kill.Message = fmt.Sprintf("Stopping superseded attempt of container %s", c.Name)
		return kill, true
	case outdated(a, c):
		kill.Message = fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)
		return kill, true
	case sick != nil:
		if sick.Grace != nil {
			kill.Grace = time.Duration(*sick.Grace) * time.Second
		}
		kill.Message = sick.Message
		return kill, true
	case o.track(c.Name).Hook == a.Attempt+1:
		return action{Verb: runHook, Container: c.Name, Attempt: a.Attempt, ID: a.ID}, true
	}
	return action{}, false
}

// outdated reports whether an attempt was made from another spec than the container has now.
func outdated(a *attempt, c *corev1.Container) bool {
	return a.SpecHash != "" && a.SpecHash != runtime.ContainerHash(c)
}

// containers yields all containers of a Pod, init containers first.
func containers(pod *corev1.Pod) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for i := range pod.Spec.InitContainers {
			if !yield(&pod.Spec.InitContainers[i]) {
				return
			}
		}
		for i := range pod.Spec.Containers {
			if !yield(&pod.Spec.Containers[i]) {
				return
			}
		}
	}
}

// nextStart finds the container to start next and what it still needs: its image, a sandbox, nothing.
func nextStart(d desired, o *observed) action {
	c, again := due(d, o)
	if at, _ := deadline(d, o); !at.IsZero() {
		again = earlier(again, at)
	}
	if c == nil {
		return action{Verb: idle, Again: again}
	}
	if !o.Sandbox.Running {
		return nextSandbox(d, o, again)
	}
	n := nextAttempt(o, c.Name)
	if !imagePresent(o, c) {
		return action{Verb: pullImage, Container: c.Name, Attempt: n}
	}
	return action{Verb: startOne, Container: c.Name, Attempt: n}
}

// nextSandbox pulls every image of the Pod before anything else of it is touched.
func nextSandbox(d desired, o *observed, again time.Time) action {
	for c := range containers(d.Pod) {
		if imagePresent(o, c) {
			continue
		}
		if hold := o.track(c.Name).Hold; hold.holds(o.Now) {
			return action{Verb: idle, Again: earlier(again, shownUntil(hold, o.Now))}
		}
		return action{Verb: pullImage, Container: c.Name, Attempt: nextAttempt(o, c.Name)}
	}
	if o.SandboxHold.holds(o.Now) {
		return action{Verb: idle, Again: earlier(again, o.SandboxHold.Until)}
	}
	return action{Verb: makeSandbox}
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
	if last := o.latest(c.Name); last != nil && last.State == runtime.Exited && !outdated(last, c) {
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
