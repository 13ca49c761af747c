package node

import (
	"context"
	"sync"
)

// slots bounds how many starts the engine works on at once. Containers go before sandboxes, so that a Pod that has begun
// is finished before another one begins: the first is ready early and the last is no later.
type slots struct {
	mu         sync.Mutex
	free       int             // guarded by mu
	containers []chan struct{} // waiting, oldest first; guarded by mu
	sandboxes  []chan struct{} // likewise
}

func newSlots(n int) *slots { return &slots{free: n} }

// acquire waits for a slot in queue, which is one of the two above. The caller releases it, unless there is an error.
func (s *slots) acquire(ctx context.Context, queue *[]chan struct{}) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	*queue = append(*queue, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.leave(queue, turn)
		return context.Cause(ctx)
	}
}

// leave gives a place in the queue up, and passes the slot on if it came at the last moment.
func (s *slots) leave(queue *[]chan struct{}, turn chan struct{}) {
	s.mu.Lock()
	for i, waiting := range *queue {
		if waiting == turn {
			*queue = append((*queue)[:i], (*queue)[i+1:]...)
			s.mu.Unlock()
			return
		}
	}
	s.mu.Unlock()
	s.release()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, queue := range []*[]chan struct{}{&s.containers, &s.sandboxes} {
		if len(*queue) > 0 {
			close((*queue)[0])
			*queue = (*queue)[1:]
			return
		}
	}
	s.free++
}
