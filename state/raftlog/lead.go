package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mainstay-cluster/mainstay/state"
)

// ErrLeadershipLost is why the context of a leader's duties ended.
var ErrLeadershipLost = errors.New("leadership lost")

// Duties that fail again and again are handed over, or where nobody can take over tried again, after a pause that doubles
// from the first to the second: servers whose duties all fail would else pass them round without end.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// pace is how long to wait after duties that failed: not at all after the first time.
type pace struct{ pause time.Duration }

func (p *pace) after(worked time.Duration) (wait time.Duration) {
	if worked > 2*lastPause { // They had been working.
		p.pause = 0
	}
	wait = p.pause
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	return wait
}

// Lead calls duties once per term this server leads, never twice at a time; the context it gets ends with the term, with
// cause ErrLeadershipLost. The state is complete before duties begin. If duties fail while this server leads, another one
// takes over; where there is none, duties are called again. Lead returns when ctx ends, and when Done is closed. It is
// called once. It does not hand over when ctx ends: whoever ends it in good order calls HandOver before.
func (l *Log) Lead(ctx context.Context, duties func(context.Context) error) error {
	leading, paced := false, &pace{}
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
		leading = l.term(ctx, paced, duties)
		if err := l.failure.err(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// term runs duties until this server no longer leads, and says whether it leads again.
func (l *Log) term(ctx context.Context, paced *pace, duties func(context.Context) error) bool {
	started := time.Now()
	l.log.Info("leading", "term", l.raft.CurrentTerm())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- l.repeat(ctx, paced, duties) }()
	select {
	case leading := <-l.raft.LeaderCh(): // true: lost and regained, with nobody having read of the loss.
		cancel(ErrLeadershipLost)
		<-done
		l.log.Info("no longer leading", "after", time.Since(started))
		select {
		case leading = <-l.raft.LeaderCh(): // newer still
		default:
		}
		return leading
	case <-l.failure.done:
		cancel(l.failure.cause)
		<-done
		return false
	case <-done: // ctx ended, or another server takes over and LeaderCh will say so.
		return false
	}
}

// repeat calls duties until ctx ends or another server has agreed to lead.
func (l *Log) repeat(ctx context.Context, paced *pace, duties func(context.Context) error) error {
	for {
		began := time.Now()
		err := l.confirm(ctx)
		if err == nil {
			err = duties(ctx)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		handing := errors.Is(err, raft.ErrLeadershipTransferInProgress) // then the term is about to end
		wait := firstPause
		if !handing {
			wait = paced.after(time.Since(began))
			l.log.Error("leader's duties ended early", "err", err, "wait", wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !handing && l.HandOver(ctx) == nil {
			return nil
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
// was acknowledged to anyone, or shown by any server, before the call. A server that does not lead asks the one that does; state.ErrNotLeader if it
// knows of none, or that one has lost its majority.
//
// No index of raft's own is used: a barrier or a change of members has one too, and the store never sees it.
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	if l.raft.State() == raft.Leader {
		index, err := l.readIndexHere(ctx)
		if !errors.Is(err, state.ErrNotLeader) && !errors.Is(err, raft.ErrLeadershipLost) { // else it led until a moment ago
			return index, err
		}
	}
	if l.isLast(ctx) {
		return newest(l.logs, l.fsm.store, l.raft.CommitIndex())
	}
	id, address := l.Leader()
	if l.streams == nil || id == l.id {
		return l.readIndexHere(ctx)
	}
	if id == "" {
		return 0, fmt.Errorf("%w: no server leads as far as this one knows", state.ErrNotLeader)
	}
	a, err := l.asker.ask(ctx, address, question{Ask: askReadIndex})
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", state.ErrUnknown, err)
	case a.NotLeader:
		return 0, fmt.Errorf("%w: server %s says: %s", state.ErrNotLeader, a.Server, a.Error)
	case a.Error != "":
		return 0, fmt.Errorf("%w: server %s says: %s", state.ErrUnknown, a.Server, a.Error)
	}
	return a.Index, nil
}

// isLast says that this server, which does not lead, is still who led last: it alone votes, and the term is the one that it led, as
// while its disk is full. All that was ever acknowledged it has applied.
func (l *Log) isLast(ctx context.Context) bool {
	l.mu.Lock()
	confirmed := l.confirmed
	l.mu.Unlock()
	if confirmed == 0 || confirmed != l.raft.CurrentTerm() {
		return false
	}
	servers, err := l.Members(ctx)
	return err == nil && !slices.ContainsFunc(servers, func(s Server) bool { return s.Voter != (s.member == l.member) })
}

// readIndexHere is ReadIndex of the leader.
func (l *Log) readIndexHere(ctx context.Context) (uint64, error) {
	if l.raft.State() != raft.Leader {
		return 0, state.ErrNotLeader
	}
	term := l.raft.CurrentTerm()
	if err := l.confirm(ctx); err != nil {
		return 0, outcome(err)
	}
	// What others have applied is committed here, but may not be applied here yet: one of them may be faster, and its clients
	// have seen it. What earlier leaders acknowledged is applied since confirm.
	index, err := newest(l.logs, l.fsm.store, l.raft.CommitIndex())
	if err != nil {
		return 0, err
	}
	if err := l.await(ctx, func() error { return l.raft.VerifyLeader().Error() }); err != nil {
		return 0, outcome(err)
	}
	if l.raft.CurrentTerm() != term {
		return 0, fmt.Errorf("%w: a new term began meanwhile", state.ErrNotLeader)
	}
	return index, nil
}

// newest is the index of the last entry up to committed that is for the store. It looks only at entries that are not applied yet.
func newest(logs raft.LogStore, store *state.Store, committed uint64) (uint64, error) {
	var entry raft.Log
	for index := committed; index > store.View().Index; index-- {
		err := logs.GetLog(index, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			break // a snapshot has it, which holds only what was applied
		}
		if err != nil {
			return 0, fmt.Errorf("read log entry %d: %w", index, err)
		}
		if entry.Type == raft.LogCommand {
			return index, nil
		}
	}
	return store.View().Index, nil
}
