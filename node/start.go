package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// start is one attempt about to be made.
type start struct {
	pod       *corev1.Pod
	container *corev1.Container
	attempt   int
	image     string
	sandbox   runtime.Sandbox
	sources   sources
	config    *link.ConfigResponse // last known; nil for none
	env       []string             // what the attempt before ran with, if the container's spec is the same; nil if unknown
}

// start makes one attempt of a container.
func (w *worker) start(ctx context.Context, s start) (effect, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, engineTimeout, errEngineSilent)
	defer cancel()
	env, config, err := w.environment(ctx, s)
	if err != nil {
		if stopped := cancelled(ctx, err); stopped != nil {
			return nil, stopped
		}
		w.recorder.warning(s.pod, s.container.Name, "Failed", "Error: "+err.Error())
		return func(o *observed) {
			o.Config = config
			hold(o, &o.track(s.container.Name).Hold, problem{Reason: reasonConfigError, Message: err.Error()}, firstRetry, maxRetry)
		}, err
	}
	if err := w.slots.acquire(ctx, &w.slots.containers); err != nil {
		return nil, err
	}
	defer w.slots.release()
	command, args := commandOf(s.container, env)
	err = w.rt.StartContainer(ctx, s.sandbox, runtime.ContainerConfig{
		Pod: s.pod, Container: s.container, Attempt: s.attempt, ImageID: s.image, Env: env, Command: command, Args: args,
	})
	if err != nil {
		return w.notStarted(ctx, s, err)
	}
	w.recorder.normal(s.pod, s.container.Name, "Created", "Container created")
	w.recorder.normal(s.pod, s.container.Name, "Started", "Container started")
	return func(o *observed) {
		o.Config = config
		w.started(o, s)
	}, nil
}

// started notes the attempt before any look has shown it, so that the next step need not wait for one.
func (w *worker) started(o *observed, s start) {
	t := o.track(s.container.Name)
	t.Hold = problem{}
	if l := s.container.Lifecycle; l != nil && l.PostStart != nil {
		t.Hook = s.attempt + 1
	}
	w.need = w.looker.request()
	last := o.latest(s.container.Name)
	switch {
	case last == nil || last.Attempt != s.attempt:
		o.Attempts[s.container.Name] = append(o.Attempts[s.container.Name], attempt{Unseen: true, Noticed: o.Now, Container: runtime.Container{
			Name: s.container.Name, Attempt: s.attempt, SpecHash: runtime.ContainerHash(s.container), Image: s.container.Image, ImageID: s.image,
			State: runtime.Running, Created: o.Now, Started: o.Now,
		}})
	case last.State == runtime.Created: // a look came between its making and its start
		last.State, last.Started, last.Unseen = runtime.Running, o.Now, true
	}
}

// notStarted deals with an engine that refused. If the attempt exists, a look will show it as one that ended.
func (w *worker) notStarted(ctx context.Context, s start, err error) (effect, error) {
	if stopped := cancelled(ctx, err); stopped != nil {
		return nil, stopped
	}
	w.recorder.warning(s.pod, s.container.Name, "Failed", "Error: "+err.Error())
	return func(o *observed) {
		t := o.track(s.container.Name)
		t.Image = image{} // it may be what is missing
		hold(o, &t.Hold, problem{Reason: reasonCreateError, Message: err.Error()}, firstRetry, maxRetry)
	}, err
}

// environment resolves the attempt's environment. Without a server it is made of what was last known, or else it is what
// the attempt before ran with. What it says is no part of the container's spec: a Service that comes later restarts nothing.
func (w *worker) environment(ctx context.Context, s start) ([]string, *link.ConfigResponse, error) {
	config := s.config
	if needsConfig(s.container) {
		got, err := w.configOf(ctx)
		switch {
		case err == nil:
			config = &got
		case config == nil && s.env != nil:
			return s.env, nil, nil
		case config == nil:
			return nil, nil, fmt.Errorf("fetch ConfigMaps and Secrets: %w", err)
		}
	}
	services, known := w.services(ctx, s.pod)
	if !known && s.env != nil {
		return s.env, config, nil
	}
	s.sources.Services = services
	s.sources.take(config)
	env, err := environment(s.container, s.sources)
	return env, config, err
}

// commandOf resolves the references in a container's command and args.
func commandOf(c *corev1.Container, env []string) (command, args []string) {
	values := make(map[string]string, len(env))
	for _, e := range env {
		for i := range len(e) {
			if e[i] == '=' {
				values[e[:i]] = e[i+1:]
				break
			}
		}
	}
	lookup := func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
	return expandAll(c.Command, lookup), expandAll(c.Args, lookup)
}

func expandAll(texts []string, lookup func(string) (string, bool)) []string {
	if texts == nil {
		return nil
	}
	expanded := make([]string, len(texts))
	for i, text := range texts {
		expanded[i] = runtime.Expand(text, lookup)
	}
	return expanded
}
