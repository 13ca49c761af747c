package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// minGrace is left between SIGTERM and SIGKILL whatever preStop took; Kubernetes' number.
	minGrace = 2 * time.Second
	// maxDrain bounds the wait for Services to turn to other Pods: servers that do not answer must not hold up a stop.
	maxDrain = 2 * time.Second
	// stopSlack is what the engine may take beyond the grace period before the call is given up and repeated.
	stopSlack = 30 * time.Second
)

// hook runs a lifecycle handler.
func hook(ctx context.Context, rt runtime.Runtime, h *corev1.LifecycleHandler, t target) error {
	if h.Sleep == nil {
		return check(ctx, rt, corev1.ProbeHandler{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket}, t)
	}
	if !pause(ctx, time.Duration(h.Sleep.Seconds)*time.Second) {
		return context.Cause(ctx)
	}
	return nil
}

// victim is an attempt to stop.
type victim struct {
	target
	State   runtime.State
	Message string
}

// stop ends one attempt gracefully: preStop and SIGTERM share the grace period, SIGKILL comes after it.
func (w *worker) stop(ctx context.Context, pod *corev1.Pod, v victim, grace time.Duration) error {
	w.recorder.normal(pod, v.Container.Name, "Killing", v.Message)
	ctx, cancel := context.WithTimeoutCause(ctx, grace+stopSlack, fmt.Errorf("the engine did not stop container %s within %s", v.Container.Name, grace+stopSlack))
	defer cancel()
	deadline := time.Now().Add(grace)
	if v.State == runtime.Paused {
		if err := w.rt.UnpauseContainer(ctx, v.ID); err != nil {
			return err
		}
	}
	w.preStop(ctx, pod, v, grace)
	if err := w.rt.StopContainer(ctx, v.ID, max(minGrace, time.Until(deadline))); err != nil {
		return fmt.Errorf("stop container %s: %w", v.Container.Name, err)
	}
	return nil
}

// preStop runs the hook, if there is one. Its failure stops nobody from being stopped.
func (w *worker) preStop(ctx context.Context, pod *corev1.Pod, v victim, grace time.Duration) {
	if v.Container.Lifecycle == nil || v.Container.Lifecycle.PreStop == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, grace, fmt.Errorf("preStop hook took longer than the grace period of %s", grace))
	defer cancel()
	if err := hook(ctx, w.rt, v.Container.Lifecycle.PreStop, v.target); err != nil {
		w.recorder.warning(pod, v.Container.Name, "FailedPreStopHook", "PreStopHook failed")
		w.log.Debug("preStop hook failed", "container", v.Container.Name, "err", err)
	}
}

// drain lets Services turn to other Pods before this one stops to listen. A Pod without a grace period has no time for that.
func (w *worker) drain(ctx context.Context, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, min(grace, maxDrain))
	defer cancel()
	w.routes.Drain(ctx, w.ref.UID)
}

// stopAll ends everything: app containers together, then sidecars one by one in reverse order, all within one grace period.
func (w *worker) stopAll(ctx context.Context, pod *corev1.Pod, victims []victim, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	w.drain(ctx, grace)
	var wg sync.WaitGroup
	errs := make([]error, len(victims))
	for i, v := range victims {
		if !sidecar(v.Container) {
			wg.Go(func() { errs[i] = w.stop(ctx, pod, v, max(0, time.Until(deadline))) })
		}
	}
	wg.Wait()
	for i, v := range slices.Backward(victims) {
		if sidecar(v.Container) && errors.Join(errs...) == nil {
			errs[i] = w.stop(ctx, pod, v, max(minGrace, time.Until(deadline)))
		}
	}
	return errors.Join(errs...)
}
