package node

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// defaultGrace is Kubernetes' default between SIGTERM and SIGKILL.
	defaultGrace = 30 * time.Second
	// exitLost is reported for a container that vanished while it ran; Kubernetes says the same.
	exitLost = 137
)

// desired is what the cluster wants of one Pod. The Pod is never modified.
type desired struct {
	Pod  *corev1.Pod
	Gone bool // the server does not know it any more, and said so
}

// stop reports whether the Pod must go: there is a positive instruction.
func (d desired) stop() bool { return d.Gone || d.Pod.DeletionTimestamp != nil }

// grace is how long the Pod's containers have to end by themselves, at least a second.
func (d desired) grace() time.Duration {
	seconds := d.Pod.Spec.TerminationGracePeriodSeconds
	if d.Pod.DeletionTimestamp != nil && d.Pod.DeletionGracePeriodSeconds != nil {
		seconds = d.Pod.DeletionGracePeriodSeconds
	}
	if seconds == nil {
		return defaultGrace
	}
	return time.Duration(max(1, *seconds)) * time.Second
}

// attempt is one run of a container, as far as known.
type attempt struct {
	runtime.Container
	Lost    bool      // it vanished from the engine; this is what was last known of it
	Unknown bool      // it vanished while it ran, so nobody knows how it ended
	Unseen  bool      // started by us, no look has shown it yet, so it has no ID
	Noticed time.Time // when it was first seen in its state
}

// alive reports whether the container has a process, frozen or not.
func (a *attempt) alive() bool {
	return a != nil && (a.State == runtime.Running || a.State == runtime.Paused)
}

// ended is when back-off starts to count.
func (a *attempt) ended() time.Time {
	if !a.Finished.IsZero() {
		return a.Finished
	}
	return a.Noticed
}

// failedStart reports whether the engine could not start the attempt.
func (a *attempt) failedStart() bool {
	return a.State == runtime.Exited && a.Message != "" && a.Started.IsZero()
}

// problem is why something is not done now.
type problem struct {
	Reason, Message string
	Since, Until    time.Time // zero: there is no problem
	Delay           time.Duration
}

// holds reports whether the problem still forbids another try.
func (p problem) holds(now time.Time) bool { return now.Before(p.Until) }

// image is an image that was made present for one attempt.
type image struct {
	Ref, ID string
	Attempt int
}

// health is what probes and hooks say of one attempt, known by its engine id.
type health struct {
	ID      string
	Started bool // no startup probe, or it succeeded
	Ready   bool // no readiness probe, or it succeeds
	Probed  bool // each readiness probe has answered, or there is none
	Sick    *sickness
}

// sickness is why an attempt must be replaced.
type sickness struct {
	Message string
	Grace   *int64 // of the probe; nil: the Pod's
}

// track is what is remembered of one container across attempts.
type track struct {
	Image   image
	Hold    problem
	Backoff backoff
	Health  health
	Hook    int // the attempt whose postStart hook is to run, plus one; 0 for none
}

// observed is all that is known of one Pod on this node. Its owner is the Pod's worker.
type observed struct {
	Now         time.Time
	HostIPs     []string
	Start       time.Time // when this node took the Pod on
	Sandbox     runtime.Sandbox
	SandboxHold problem
	Attempts    map[string][]attempt // by container, oldest first
	Tracks      map[string]*track    // by container
	Config      *link.ConfigResponse // what was last fetched; nil for never
	Last        corev1.PodStatus     // the last status reported, at first what the server knew
	Removed     bool                 // nothing of it is left here
}

func newObserved() *observed {
	return &observed{Attempts: map[string][]attempt{}, Tracks: map[string]*track{}}
}

// track never returns nil.
func (o *observed) track(name string) *track {
	t := o.Tracks[name]
	if t == nil {
		t = &track{}
		o.Tracks[name] = t
	}
	return t
}

// latest is the newest attempt, nil for none.
func (o *observed) latest(name string) *attempt {
	all := o.Attempts[name]
	if len(all) == 0 {
		return nil
	}
	return &all[len(all)-1]
}

// previous is the newest attempt but one, nil for none.
func (o *observed) previous(name string) *attempt {
	all := o.Attempts[name]
	if len(all) < 2 {
		return nil
	}
	return &all[len(all)-2]
}

// here reports whether an attempt belongs to the sandbox that runs now.
func (o *observed) here(a *attempt) bool {
	return a != nil && o.Sandbox.Running && !a.Created.Before(o.Sandbox.Created)
}

// taken reports whether an attempt did not end by itself: somebody removed it, or the sandbox it was in. Nobody backs off
// from that.
func (o *observed) taken(a *attempt) bool {
	return a.Lost || o.Sandbox.Running && !o.here(a)
}

// healthOf returns what is known of an attempt's health, which is nothing if it is about another attempt.
func (o *observed) healthOf(a *attempt) health {
	if t := o.Tracks[a.Name]; t != nil && a.ID != "" && t.Health.ID == a.ID {
		return t.Health
	}
	return health{}
}

// anyAlive reports whether any container has a process.
func (o *observed) anyAlive() bool {
	for _, all := range o.Attempts {
		if slices.ContainsFunc(all, func(a attempt) bool { return a.alive() }) {
			return true
		}
	}
	return false
}

// anyUnseen reports whether a look is due to complete what we know.
func (o *observed) anyUnseen() bool {
	for _, all := range o.Attempts {
		if slices.ContainsFunc(all, func(a attempt) bool { return a.Unseen }) {
			return true
		}
	}
	return false
}

// merge takes in a fresh look. What was there and is not any more is remembered as lost, so that counts go on.
func (o *observed) merge(p runtime.Pod) {
	o.Sandbox = p.Sandbox
	fresh := map[string][]attempt{}
	for _, c := range p.Containers {
		noticed := o.Now
		if before := o.find(c.ID); before != nil && before.State == c.State {
			noticed = before.Noticed
		}
		fresh[c.Name] = append(fresh[c.Name], attempt{Container: c, Noticed: noticed})
	}
	for name, before := range o.Attempts {
		fresh[name] = withLost(fresh[name], before, o.Now)
	}
	for _, all := range fresh {
		slices.SortStableFunc(all, func(a, b attempt) int { return a.Attempt - b.Attempt })
	}
	o.Attempts = fresh
}

// withLost adds to what a look shows those of the newest attempts that it should show and does not.
func withLost(fresh, before []attempt, now time.Time) []attempt {
	shown := func(n int) bool {
		return slices.ContainsFunc(fresh, func(a attempt) bool { return a.Attempt == n })
	}
	newer := func(n int) (count int) {
		for i := range fresh {
			if fresh[i].Attempt > n {
				count++
			}
		}
		return count
	}
	for i := len(before) - 1; i >= 0 && newer(before[i].Attempt) < keptOfEach; i-- {
		if !shown(before[i].Attempt) {
			fresh = append(fresh, before[i].lose(now))
		}
	}
	return fresh
}

func (o *observed) find(id string) *attempt {
	for _, all := range o.Attempts {
		if i := slices.IndexFunc(all, func(a attempt) bool { return a.ID == id }); i >= 0 {
			return &all[i]
		}
	}
	return nil
}

// lose is what remains of an attempt that vanished.
func (a *attempt) lose(now time.Time) attempt {
	lost := *a
	if lost.State != runtime.Exited {
		lost.State, lost.ExitCode, lost.Finished, lost.Noticed = runtime.Exited, exitLost, now, now
		lost.Unknown = true
	}
	lost.Lost, lost.Unseen = true, false
	return lost
}
