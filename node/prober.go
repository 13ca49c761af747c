package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// maxExecs bounds how many commands probes and hooks run at once: each costs the engine a process.
const maxExecs = 10

// probeKind is what a probe decides.
type probeKind string

const (
	startup   probeKind = "Startup"
	readiness probeKind = "Readiness"
	liveness  probeKind = "Liveness"
)

// result is what a probe has come to think, after its thresholds.
type result struct {
	ID        string // of the attempt
	Container string
	Kind      probeKind
	Err       error  // why it thinks ill; nil: it thinks well
	Grace     *int64 // of the probe
}

// prober runs the probes of one attempt: startup first, then readiness and liveness beside each other.
type prober struct {
	rt       runtime.Runtime
	execs    chan struct{} // one token per running command
	recorder *recorder
	pod      *corev1.Pod
	target   target
	started  time.Time    // when the attempt began to run
	passed   bool         // startup was passed before this agent came
	publish  func(result) // may be called from any goroutine
}

// run probes until ctx ends, the startup probe gives up, or there is nothing to probe. The startup and liveness probes end with vital.
func (p *prober) run(ctx, vital context.Context) {
	c := p.target.Container
	if c.StartupProbe != nil && !p.passed && !p.loop(vital, startup, c.StartupProbe) {
		return
	}
	var wg sync.WaitGroup
	if c.ReadinessProbe != nil {
		wg.Go(func() { p.loop(ctx, readiness, c.ReadinessProbe) })
	}
	if c.LivenessProbe != nil {
		wg.Go(func() { p.loop(vital, liveness, c.LivenessProbe) })
	}
	wg.Wait()
}

// loop runs one probe. Startup ends with its first verdict, liveness with its first bad one, readiness with ctx alone. It
// reports whether the verdict was good.
func (p *prober) loop(ctx context.Context, kind probeKind, probe *corev1.Probe) bool {
	wait := time.Until(p.started.Add(time.Duration(probe.InitialDelaySeconds) * time.Second))
	if wait > 0 && !pause(ctx, wait) {
		return false
	}
	count := tally{good: max(1, int(probe.SuccessThreshold)), bad: max(1, int(probe.FailureThreshold))}
	period := time.NewTicker(time.Duration(max(1, probe.PeriodSeconds)) * time.Second)
	defer period.Stop()
	for {
		err := p.try(ctx, kind, probe)
		if ctx.Err() != nil {
			return false
		}
		if !errors.As(err, new(undecided)) && count.add(err) {
			p.publish(result{ID: p.target.ID, Container: p.target.Container.Name, Kind: kind, Err: err, Grace: probe.TerminationGracePeriodSeconds})
			if kind == startup || kind == liveness && err != nil {
				return err == nil
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-period.C:
		}
	}
}

// tally counts equal outcomes in a row.
type tally struct {
	good, bad int // how many make a verdict
	run       int
	failing   bool
}

// add counts one outcome and reports whether enough of its kind have come in a row.
func (t *tally) add(err error) bool {
	if failing := err != nil; failing != t.failing {
		t.failing, t.run = failing, 0
	}
	t.run++
	if t.failing {
		return t.run >= t.bad
	}
	return t.run >= t.good
}

// try runs the probe once and records a failure as an Event.
func (p *prober) try(ctx context.Context, kind probeKind, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout(probe), fmt.Errorf("no answer within %s", probeTimeout(probe)))
	defer cancel()
	if probe.Exec != nil {
		select {
		case p.execs <- struct{}{}:
			defer func() { <-p.execs }()
		case <-ctx.Done():
			return undecided{context.Cause(ctx)}
		}
	}
	err := check(ctx, p.rt, probe.ProbeHandler, p.target)
	if err == nil || errors.As(err, new(undecided)) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		p.recorder.warning(p.pod, p.target.Container.Name, "Unhealthy", fmt.Sprintf("%s probe failed: %s", kind, err))
	}
	return err
}
