package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// probes are those of one attempt that are under way.
type probes struct {
	end      context.CancelFunc // all of them
	endVital context.CancelFunc // those whose verdict would restart the container
}

// syncProbes starts the probes of every attempt that runs and ends those of all others. Of a Pod that is being stopped only the
// readiness probe goes on: what is on its way out is neither slow to start nor dead.
func (w *worker) syncProbes(ctx context.Context) {
	wanted := map[string]bool{}
	for c := range containers(w.desired.Pod) {
		last := w.known.latest(c.Name)
		if last == nil || !last.alive() || last.ID == "" || !probed(c) || w.known.Removed {
			continue
		}
		wanted[last.ID] = true
		if w.probers[last.ID].end == nil {
			w.probe(ctx, c, last)
		}
		if w.desired.stop() {
			w.probers[last.ID].endVital()
		}
	}
	for id := range w.probers {
		if !wanted[id] {
			w.endProbes(id)
		}
	}
}

// endProbes ends the probes of one attempt, if it has any.
func (w *worker) endProbes(id string) {
	if p, ok := w.probers[id]; ok {
		p.end()
		delete(w.probers, id)
	}
}

func probed(c *corev1.Container) bool {
	return c.StartupProbe != nil || c.ReadinessProbe != nil || c.LivenessProbe != nil
}

func (w *worker) probe(ctx context.Context, c *corev1.Container, a *attempt) {
	ctx, end := context.WithCancel(ctx)
	vital, endVital := context.WithCancel(ctx)
	w.probers[a.ID] = probes{end, endVital}
	p := &prober{
		rt: w.rt, execs: w.execs, recorder: w.recorder, pod: w.desired.Pod,
		target: w.targetOf(c, a.ID), started: a.Started, passed: w.known.healthOf(a).Started, publish: w.hear,
	}
	w.probing.Go(func() { p.run(ctx, vital) })
}

// targetOf is what probes and hooks of an attempt are about.
func (w *worker) targetOf(c *corev1.Container, id string) target {
	t := target{Container: c, ID: id}
	switch {
	case w.known.Sandbox.IP.IsValid():
		t.IP = w.known.Sandbox.IP.String()
	case len(w.hostIPs) > 0:
		t.IP = w.hostIPs[0]
	}
	return t
}

// takeResult turns a probe's verdict into health. Those of attempts that are history are ignored.
func (w *worker) takeResult(r result) {
	h := &w.known.track(r.Container).Health
	if h.ID != r.ID {
		return
	}
	switch r.Kind {
	case readiness:
		h.Probed, h.Ready = true, r.Err == nil
	case startup:
		if h.Started {
			return // a server remembered so meanwhile
		}
		h.Started = r.Err == nil
		w.sicken(h, r)
	case liveness:
		w.sicken(h, r)
	}
}

func (w *worker) sicken(h *health, r result) {
	if r.Err == nil || w.desired.stop() {
		return
	}
	kind := "liveness"
	if r.Kind == startup {
		kind = "startup"
	}
	h.Sick = &sickness{Message: fmt.Sprintf("Container %s failed %s probe, will be restarted", r.Container, kind), Grace: r.Grace}
}
