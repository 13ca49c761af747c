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
	if len(d.Pod.Spec.Containers) == 0 { // its labels cannot be read: what it is, only a server knows
		return action{Verb: idle}
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
