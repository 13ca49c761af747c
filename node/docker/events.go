package docker

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/docker/docker/api/types/events"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Events implements runtime.Runtime. Only what changes a container's state is asked for: each probe's exec would be three more.
func (r *Runtime) Events(ctx context.Context) iter.Seq2[runtime.Event, error] {
	return func(yield func(runtime.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		filter := r.ours()
		filter.Add("type", string(events.ContainerEventType))
		for _, action := range []events.Action{
			events.ActionStart, events.ActionDie, events.ActionOOM, events.ActionPause, events.ActionUnPause, events.ActionDestroy, events.ActionRename,
		} {
			filter.Add("event", string(action))
		}
		// The engine answers before it listens; what happens in between it repeats from its memory.
		messages, errs := r.cli.Events(ctx, events.ListOptions{Filters: filter, Since: timestamp(time.Now())})
		select {
		case err := <-errs: // the engine did not even answer
			if ctx.Err() == nil {
				yield(runtime.Event{}, fmt.Errorf("events: %w", err))
			}
			return
		default:
		}
		defer r.known.listen()()
		if !yield(runtime.Event{}, nil) {
			return
		}
		r.forward(ctx, messages, errs, yield)
	}
}

// forward yields events until they end.
func (r *Runtime) forward(ctx context.Context, messages <-chan events.Message, errs <-chan error, yield func(runtime.Event, error) bool) {
	for {
		select {
		case m := <-messages:
			r.known.forget(m.Actor.ID)
			if uid := m.Actor.Attributes[labelUID]; uid != "" && !yield(runtime.Event{UID: types.UID(uid)}, nil) {
				return
			}
		case err := <-errs:
			if ctx.Err() == nil {
				yield(runtime.Event{}, fmt.Errorf("events: %w", err))
			}
			return
		}
	}
}
