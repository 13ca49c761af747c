package raftlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mainstay-cluster/mainstay/state"
)

// ErrLeadershipLost is why the context of a leader's duties ended.
var ErrLeadershipLost = errors.New("leadership lost")

// Duties that fail while nobody else can take over are tried again after a pause that doubles from the first to the second.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Lead calls duties once per term this server leads, never twice at a time; the context it gets ends with the term, with
// cause ErrLeadershipLost. The state is complete before duties begin. If duties fail while this server leads, another one
// takes over; where there is none, duties are called again after a pause. Lead returns when ctx ends, and when Done is
// closed. It is called once.
func (l *Log) Lead(ctx context.Context, duties func(context.Context) error) error {
	leading := false
	for {
		if !leading {
			select {
			case leading = <-l.raft.LeaderCh():
				continue
			case <-l.failure.done:
				return l.failure.cause
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		leading = l.term(ctx, duties)
		if err := l.failure.err(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// term runs duties until this server no longer leads, and says whether it leads again.
func (l *Log) term(ctx context.Context, duties func(context.Context) error) bool {
	started := time.Now()
	l.log.Info("leading", "term", l.raft.CurrentTerm())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- l.repeat(ctx, duties) }()
	select {
	case leading := <-l.raft.LeaderCh(): // true: lost and regained, with nobody having read of the loss.
		cancel(ErrLeadershipLost)
		<-done
		l.log.Info("no longer leading", "after", time.Since(started))
		return l.newest(leading)
	case <-l.failure.done:
		cancel(l.failure.cause)
		<-done
		return false
	case <-done: // ctx ended, or another server takes over and LeaderCh will say so.
		return false
	}
}

// newest is what LeaderCh says by now.
func (l *Log) newest(leading bool) bool {
	select {
	case leading = <-l.raft.LeaderCh():
	default:
	}
	return leading
}

// repeat calls duties until ctx ends or another server has agreed to lead.
func (l *Log) repeat(ctx context.Context, duties func(context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := l.confirm(ctx)
		if err == nil {
			err = duties(ctx)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(began) > 2*lastPause { // They had been working.
			pause = firstPause
		}
		l.log.Error("leader's duties ended early", "err", err, "retry", pause)
		if l.await(ctx, func() error { return l.raft.LeadershipTransfer().Error() }) == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// confirm makes sure that everything committed before this term is applied here.
func (l *Log) confirm(ctx context.Context) error {
	term := l.raft.CurrentTerm()
	l.mu.Lock()
	confirmed := l.confirmed
	l.mu.Unlock()
	if confirmed == term {
		return nil
	}
	if err := l.await(ctx, func() error { return l.raft.Barrier(0).Error() }); err != nil {
		return fmt.Errorf("wait for the log of earlier terms: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed = max(l.confirmed, term)
	return nil
}

// ReadIndex returns an index of the log such that a state in which it is applied (Store.WaitIndex) shows everything that
// was acknowledged to anyone before the call. Only the leader can tell: others return state.ErrNotLeader and ask it.
//
// No index of raft's own is used: a barrier or a change of members has one too, and the store never sees it.
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	if l.raft.State() != raft.Leader {
		return 0, state.ErrNotLeader
	}
	term := l.raft.CurrentTerm()
	if err := l.confirm(ctx); err != nil {
		return 0, outcome(err)
	}
	// What this leader acknowledged is applied here, and so is, since confirm, what earlier ones did.
	index := l.fsm.store.View().Index
	if err := l.await(ctx, func() error { return l.raft.VerifyLeader().Error() }); err != nil {
		return 0, outcome(err)
	}
	if l.raft.CurrentTerm() != term {
		return 0, fmt.Errorf("%w: a new term began meanwhile", state.ErrNotLeader)
	}
	return index, nil
}
