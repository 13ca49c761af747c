package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// lookEvery bounds how long a lost event can hide something.
	lookEvery = 10 * time.Second
	// lookTimeout bounds one look: an engine that hangs must not hang the agent.
	lookTimeout = 10 * time.Second
	// looks are spaced by restFactor times the last one's duration, between the two bounds, so that they never take more
	// than a sixth of a core while the engine is busy. After a quiet time the first comes at once.
	restFactor = 5
	minRest    = 20 * time.Millisecond
	maxRest    = 400 * time.Millisecond
	// eventsRetry is the pause before events are asked for again after they ended.
	eventsRetry = 200 * time.Millisecond
)

// look is one look at the whole engine.
type look struct {
	Number uint64 // of the look: a higher one started later
	Pods   []runtime.Pod
	Err    error
}

// looker looks at the engine when asked, when the engine says that something changed, and regularly. One look serves all.
type looker struct {
	rt      runtime.Runtime
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{} // capacity 1: a token, not a queue

	mu   sync.Mutex
	next uint64 // number of the look that starts next; guarded by mu
}

func newLooker(rt runtime.Runtime, log *slog.Logger, m *metrics) *looker {
	return &looker{rt: rt, log: log, metrics: m, wake: make(chan struct{}, 1), next: 1}
}

// fence returns the number of the first look that shows everything done until now.
func (l *looker) fence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// request asks for a look and returns its number.
func (l *looker) request() uint64 {
	n := l.fence()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return n
}

// once takes one look.
func (l *looker) once(ctx context.Context) look {
	l.mu.Lock()
	n := l.next
	l.next++
	l.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errEngineSilent)
	defer cancel()
	start := time.Now()
	pods, err := l.rt.Pods(ctx)
	l.metrics.looks.Observe(time.Since(start).Seconds())
	return look{Number: n, Pods: pods, Err: err}
}

// run looks until ctx ends and hands each look to deliver, one after the other.
func (l *looker) run(ctx context.Context, deliver func(look)) error {
	regular := time.NewTicker(lookEvery)
	defer regular.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-regular.C:
		}
		start := time.Now()
		got := l.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		deliver(got)
		if !pause(ctx, min(max(minRest, restFactor*time.Since(start)), maxRest)) {
			return nil
		}
	}
}

// follow turns the engine's events into looks until ctx ends. Whenever events begin or end, some may be lost.
func (l *looker) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		l.request()
		for _, err := range l.rt.Events(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					l.log.Debug("engine events ended", "err", err)
				}
				break
			}
			l.request()
		}
		l.request()
		pause(ctx, eventsRetry)
	}
	return nil
}

// pause waits for d and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
