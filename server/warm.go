package server

import (
	"context"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// coldFor is how soon at the latest a server that has ceased to lead begins to keep itself ready again.
const coldFor = time.Second

// turn is the use of the repository's copy: by whoever leads, else by who keeps it ready. The zero value is free.
type turn struct {
	sync.Mutex // held by who uses the copy

	warming sync.Mutex
	end     context.CancelFunc // makes who keeps it ready stop; nil: nobody does; guarded by warming
}

// takeOver waits, not for long, until the copy is free.
func (t *turn) takeOver() (release func()) {
	t.warming.Lock()
	if t.end != nil {
		t.end()
	}
	t.warming.Unlock()
	t.Lock()
	return t.Unlock
}

func (t *turn) endBy(cancel context.CancelFunc) {
	t.warming.Lock()
	defer t.warming.Unlock()
	t.end = cancel
}

// warm keeps this server ready to go on from the newest commit whenever another one leads.
func (s *server) warm(ctx context.Context) error {
	if err := await(ctx, s.store, func(r state.Reader) bool { return plan.LiveCluster(r) != nil }); err != nil {
		return err
	}
	for {
		if err := s.warmTurn(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(coldFor):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// warmTurn keeps it ready until it leads.
func (s *server) warmTurn(ctx context.Context) error {
	s.copy.Lock()
	defer s.copy.Unlock()
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	s.copy.endBy(cancel) // before the look at who leads: who begins to in between ends this
	if leader, _ := s.raft.Leader(); leader == s.id || leader == "" {
		return nil
	}
	if err := gitsync.Warm(limited, s.cfg.Git, s.store); limited.Err() == nil {
		return err
	}
	return nil
}
