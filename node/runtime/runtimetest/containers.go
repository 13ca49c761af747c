package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	exitKilled = 128 + 9
	// What a test finds behind a Fake's Pod when the container could not be started; Docker says the same.
	exitNotStarted = 128
)

// EnsureSandbox implements runtime.Runtime.
func (f *Fake) EnsureSandbox(ctx context.Context, p *corev1.Pod) (runtime.Sandbox, error) {
	if err := f.enter(ctx, Call{Method: "EnsureSandbox", UID: p.UID}); err != nil {
		return runtime.Sandbox{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.network.PodCIDR.IsValid() {
		return runtime.Sandbox{}, fmt.Errorf("sandbox of pod %s/%s: %w", p.Namespace, p.Name, runtime.ErrNotConfigured)
	}
	pod := f.pods[p.UID]
	if pod == nil {
		pod = &fakePod{}
		f.pods[p.UID] = pod
	}
	if f.usable(pod) {
		return pod.sandbox, nil
	}
	for _, c := range pod.containers {
		f.end(c, exitKilled)
	}
	delete(f.used, pod.sandbox.IP)
	ip, err := f.address(p)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	pod.pod = stored(p)
	pod.sandbox = runtime.Sandbox{UID: p.UID, ID: f.id("sandbox"), Running: true, IP: ip, Created: time.Now()}
	f.changed(p.UID)
	return pod.sandbox, nil
}

// usable tells whether a Pod's sandbox runs, and with an address of the range that was configured last.
func (f *Fake) usable(p *fakePod) bool {
	return p.sandbox.Running && (p.sandbox.IP == hostIP || !f.network.PodCIDR.IsValid() || f.network.PodCIDR.Contains(p.sandbox.IP))
}

func stored(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.Status = corev1.PodStatus{}
	p.ResourceVersion = ""
	p.ManagedFields = nil
	return p
}

func (f *Fake) address(p *corev1.Pod) (netip.Addr, error) {
	if p.Spec.HostNetwork {
		return hostIP, nil
	}
	for ip := f.network.PodCIDR.Masked().Addr().Next().Next(); f.network.PodCIDR.Contains(ip); ip = ip.Next() {
		if !f.used[ip] {
			f.used[ip] = true
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no free address in %s", f.network.PodCIDR)
}

func (f *Fake) id(kind string) string {
	f.nextID++
	return kind + "-" + strconv.Itoa(f.nextID)
}

// StartContainer implements runtime.Runtime.
func (f *Fake) StartContainer(ctx context.Context, s runtime.Sandbox, cfg runtime.ContainerConfig) error {
	if err := f.enter(ctx, Call{Method: "StartContainer", UID: cfg.Pod.UID, Container: cfg.Container.Name}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pod := f.pods[cfg.Pod.UID]
	if pod == nil || pod.sandbox.ID != s.ID || !pod.sandbox.Running {
		return fmt.Errorf("start container %s of pod %s/%s: sandbox %s does not run", cfg.Container.Name, cfg.Pod.Namespace, cfg.Pod.Name, s.ID)
	}
	for _, c := range pod.containers {
		if c.Name == cfg.Container.Name && c.Attempt == cfg.Attempt {
			return nil
		}
	}
	c := &fakeContainer{uid: cfg.Pod.UID, sandbox: s.ID, behaviour: f.behave(cfg), done: make(chan struct{}), Container: runtime.Container{
		ID: f.id("container"), Name: cfg.Container.Name, Attempt: cfg.Attempt, SpecHash: runtime.ContainerHash(cfg.Container),
		Image: cfg.Container.Image, ImageID: cfg.ImageID, Env: slices.Clone(cfg.Env), Created: time.Now(),
	}}
	pod.containers = append(pod.containers, c)
	f.changed(c.uid)
	return f.start(c)
}

func (f *Fake) start(c *fakeContainer) error {
	if err := c.behaviour.StartErr; err != nil {
		c.State, c.ExitCode, c.Message = runtime.Exited, exitNotStarted, err.Error()
		close(c.done)
		return fmt.Errorf("start container %s: %w", c.Name, err)
	}
	c.State, c.Started = runtime.Running, time.Now()
	if c.behaviour.Exits {
		c.exit = time.AfterFunc(c.behaviour.RunFor, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if c.running() {
				c.OOMKilled = c.behaviour.OOMKilled
				f.end(c, c.behaviour.ExitCode)
			}
		})
	}
	return nil
}

func (c *fakeContainer) running() bool {
	return c.State == runtime.Running || c.State == runtime.Paused
}

// end marks a running container as exited. The caller holds mu.
func (f *Fake) end(c *fakeContainer, code int) {
	if !c.running() {
		return
	}
	if c.exit != nil {
		c.exit.Stop()
	}
	c.State, c.ExitCode, c.Finished = runtime.Exited, code, time.Now()
	close(c.done)
	f.changed(c.uid)
}

// lookup returns the container and its Pod. The caller holds mu.
func (f *Fake) lookup(id string) (*fakePod, *fakeContainer) {
	for _, pod := range f.pods {
		for _, c := range pod.containers {
			if c.ID == id {
				return pod, c
			}
		}
	}
	return nil, nil
}

// find returns a copy, nil if there is none.
func (f *Fake) find(id string) *fakeContainer {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, c := f.lookup(id)
	if c == nil {
		return nil
	}
	snapshot := *c
	return &snapshot
}

func callOn(method string, c *fakeContainer) Call {
	if c == nil {
		return Call{Method: method}
	}
	return Call{Method: method, UID: c.uid, Container: c.Name}
}

// StopContainer implements runtime.Runtime. A paused container is killed after grace, as it cannot see the signal.
func (f *Fake) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	c := f.find(id)
	if err := f.enter(ctx, callOn("StopContainer", c)); err != nil {
		return err
	}
	if c == nil || !c.running() {
		return nil
	}
	code := c.behaviour.ExitCode
	if c.behaviour.IgnoresTerm || c.State == runtime.Paused {
		select {
		case <-time.After(grace):
		case <-c.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		code = exitKilled
	}
	f.Kill(id, code)
	return nil
}

// UnpauseContainer implements runtime.Runtime.
func (f *Fake) UnpauseContainer(ctx context.Context, id string) error {
	if err := f.enter(ctx, callOn("UnpauseContainer", f.find(id))); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, c := f.lookup(id); c != nil && c.State == runtime.Paused {
		c.State = runtime.Running
		f.changed(c.uid)
	}
	return nil
}

// RemoveContainer implements runtime.Runtime.
func (f *Fake) RemoveContainer(ctx context.Context, id string) error {
	if err := f.enter(ctx, callOn("RemoveContainer", f.find(id))); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pod, c := f.lookup(id)
	if c == nil {
		return nil
	}
	if c.running() {
		return errors.New("remove container " + id + ": it is running")
	}
	f.drop(pod, c)
	return nil
}

func (f *Fake) drop(pod *fakePod, c *fakeContainer) {
	pod.containers = slices.DeleteFunc(pod.containers, func(other *fakeContainer) bool { return other == c })
	f.forgetIfEmpty(c.uid)
	f.changed(c.uid)
}

// forgetIfEmpty drops a Pod of which nothing is left: a runtime knows Pods only by what carries their labels.
func (f *Fake) forgetIfEmpty(uid types.UID) {
	if pod := f.pods[uid]; pod != nil && pod.sandbox.ID == "" && len(pod.containers) == 0 {
		delete(f.pods, uid)
	}
}

// RemovePod implements runtime.Runtime.
func (f *Fake) RemovePod(ctx context.Context, uid types.UID) error {
	if err := f.enter(ctx, Call{Method: "RemovePod", UID: uid}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pod := f.pods[uid]
	if pod == nil {
		return nil
	}
	for _, c := range pod.containers {
		f.end(c, exitKilled)
	}
	delete(f.used, pod.sandbox.IP)
	delete(f.pods, uid)
	f.changed(uid)
	return nil
}
