package server

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// handshakesAtOnce is how many clients are in the middle of a handshake. What a handshake takes is mostly the processor's time, so that of
	// thousands that come back at once all would be answered too late for any; of these each is done long before its client
	// gives up, on a third of a core too.
	handshakesAtOnce = 128
	// handshakeTurn is for how long a client counts as one of them: one that is far away, or that says no more, holds up nobody.
	handshakeTurn = 250 * time.Millisecond
)

// handshakes bounds how many are worked on. Who came last goes first: who has waited for long has given up by then, and comes again.
type handshakes struct {
	mu      sync.Mutex
	present int             // guarded by mu
	waiting []chan struct{} // closed to let one in, the newest last; guarded by mu
}

// enter waits for a turn, which ends when leave is called, or by itself. leave may be called more than once.
func (h *handshakes) enter(ctx context.Context) (leave func(), err error) {
	if turn := h.ask(); turn != nil {
		select {
		case <-turn:
		case <-ctx.Done():
			h.withdraw(turn)
			return nil, context.Cause(ctx)
		}
	}
	end := sync.OnceFunc(h.next)
	timer := time.AfterFunc(handshakeTurn, end)
	return func() {
		timer.Stop()
		end()
	}, nil
}

// ask takes a turn, or returns what is closed when there is one.
func (h *handshakes) ask() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.present < handshakesAtOnce {
		h.present++
		return nil
	}
	turn := make(chan struct{})
	h.waiting = append(h.waiting, turn)
	return turn
}

// withdraw is for who waits no longer. A turn that came meanwhile is passed on.
func (h *handshakes) withdraw(turn <-chan struct{}) {
	h.mu.Lock()
	i := slices.IndexFunc(h.waiting, func(other chan struct{}) bool { return other == turn })
	if i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	}
	h.mu.Unlock()
	if i < 0 {
		h.next()
	}
}

// next passes a turn on, to the one that came last.
func (h *handshakes) next() {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.waiting) - 1
	if last < 0 {
		h.present--
		return
	}
	close(h.waiting[last])
	h.waiting = h.waiting[:last]
}
