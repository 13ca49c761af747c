package runtimetest

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// listener holds what one Events sequence has not seen yet: bounded by the number of Pods, since a uid waits only once.
type listener struct {
	mu      sync.Mutex
	pending []types.UID
	err     error
	wake    chan struct{} // capacity 1: a token, not a queue
}

func (f *Fake) listen() *listener {
	l := &listener{wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners[l] = true
	return l
}

func (f *Fake) unlisten(l *listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listeners, l)
}

func (l *listener) add(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.pending, uid) {
		l.pending = append(l.pending, uid)
	}
	l.signal()
}

func (l *listener) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	l.signal()
}

func (l *listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next blocks for at least one uid or an error.
func (l *listener) next(ctx context.Context) ([]types.UID, error) {
	select {
	case <-l.wake:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	uids := l.pending
	l.pending = nil
	return uids, l.err
}
