package raftlog

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// news tells those who wait that another server leads, or none does any more. It is safe for concurrent use.
type news struct {
	observed chan raft.Observation // capacity 1: a token, not a queue

	mu   sync.Mutex
	next chan struct{} // closed at the next change; guarded by mu
}

func newNews() *news {
	return &news{observed: make(chan raft.Observation, 1), next: make(chan struct{})}
}

// follow has r tell of every change of the leader, until ctx ends.
func (n *news) follow(ctx context.Context, r *raft.Raft) {
	observer := raft.NewObserver(n.observed, false, func(o *raft.Observation) bool {
		_, leader := o.Data.(raft.LeaderObservation)
		return leader
	})
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	for {
		n.tell() // also of what happened before r knew of the observer
		select {
		case <-n.observed:
		case <-ctx.Done():
			return
		}
	}
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.next)
	n.next = make(chan struct{})
}

// LeaderNews returns a channel that is closed once another server leads as this one knows it, or none does any more. Ask for
// it before Leader, so that no change is missed; that nothing has changed is possible, too.
func (l *Log) LeaderNews() <-chan struct{} {
	l.news.mu.Lock()
	defer l.news.mu.Unlock()
	return l.news.next
}

// Contact is how long this server has heard of no leader: 0 while it leads, the time since it was opened if it never has.
func (l *Log) Contact() time.Duration {
	if l.raft.State() == raft.Leader {
		return 0
	}
	if last := l.raft.LastContact(); !last.IsZero() {
		return time.Since(last)
	}
	return time.Since(l.opened)
}
