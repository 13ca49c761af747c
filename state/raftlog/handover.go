package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// ErrNoHeir is why a leader did not hand over: no other voter answers.
var ErrNoHeir = errors.New("no other voter answers")

// TransferLeadership makes another server lead: id, or one with the whole log if id is "". It returns once this server has
// ceased to lead. Only the leader can.
func (l *Log) TransferLeadership(ctx context.Context, id string) error {
	servers, err := l.Members(ctx)
	if err != nil {
		return err
	}
	if id != "" && !slices.ContainsFunc(servers, func(s Server) bool { return s.ID == id && s.Voter }) {
		return fmt.Errorf("hand over to server %s: it is not a voter of this cluster", id)
	}
	if l.raft.State() != raft.Leader {
		return fmt.Errorf("hand over: %w", outcome(raft.ErrNotLeader))
	}
	if id == "" {
		return l.HandOver(ctx)
	}
	return l.transfer(ctx, servers[slices.IndexFunc(servers, func(s Server) bool { return s.ID == id })])
}

// HandOver makes another voter lead, if this server does: the first to answer that has the whole log. It returns once this
// server has ceased to lead; ErrNoHeir if there is nobody to hand over to.
func (l *Log) HandOver(ctx context.Context) error {
	if l.raft.State() != raft.Leader {
		return nil
	}
	servers, err := l.Members(ctx)
	if err != nil {
		return err
	}
	servers = slices.DeleteFunc(servers, func(s Server) bool { return !s.Voter || s.ID == l.id })
	needed := l.raft.CommitIndex()
	var behind []Server
	err = ErrNoHeir
	for s := range l.answering(ctx, servers) {
		if s.Index < needed {
			behind = append(behind, s)
			continue
		}
		if err = l.transfer(ctx, s); err == nil {
			return nil
		}
	}
	for _, s := range behind {
		if err = l.transfer(ctx, s); err == nil {
			return nil
		}
	}
	return err
}

// answering asks servers how far they are, all at a time, and yields those that answer, as they do: one that is gone is
// not waited for as long as another will do.
func (l *Log) answering(ctx context.Context, servers []Server) func(yield func(Server) bool) {
	return func(yield func(Server) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		asked := make(chan Server, len(servers))
		for _, s := range servers {
			go func() {
				l.reach(ctx, &s)
				asked <- s
			}()
		}
		for range servers {
			if s := <-asked; s.Reached && !yield(s) {
				return
			}
		}
	}
}

func (l *Log) transfer(ctx context.Context, to Server) error {
	began := time.Now()
	err := l.fsm.moments.around("hand over", func() error {
		return l.await(ctx, l.raft.LeadershipTransferToServer(to.member, raft.ServerAddress(to.Address)).Error)
	})
	if err != nil {
		return fmt.Errorf("hand over to server %s: %w", to.ID, outcome(err))
	}
	l.log.Info("handed over", "to", to.ID, "took", time.Since(began))
	return nil
}
