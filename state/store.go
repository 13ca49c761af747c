// Package state holds everything the cluster knows: one immutable, versioned snapshot, advanced only by Apply of log
// entries, identically on every server. It knows no consensus (see Log), no kind's meaning and no I/O.
//
// Read with Get, List and ListBy on Store.View. Write with Store.Update. Follow with Changes. Start at Store.
package state

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Store is the state of one server. It is safe for concurrent use.
type Store struct {
	schema *Schema
	clock  func() time.Time
	snap   atomic.Pointer[Snapshot]
	rings  []*ring
	queue  queue
	audit  *audit // nil outside tests

	mu        sync.Mutex
	followed  *Snapshot     // the newest whose changes are in the feeds; guarded by mu
	published chan struct{} // closed when there is another one; guarded by mu
}

// New makes an empty store. The clock stamps creationTimestamps and ages feeds; it never reaches Apply.
func New(schema *Schema, clock func() time.Time) *Store {
	s := &Store{schema: schema, clock: clock, queue: newQueue(), published: make(chan struct{})}
	empty := &Snapshot{schema: schema}
	for _, spec := range schema.specs {
		empty.tables = append(empty.tables, newTable(spec))
		s.rings = append(s.rings, newRing())
	}
	s.snap.Store(empty)
	s.wakeWaiters()
	return s
}

// Fork makes an independent store that starts as snap, in constant time: what is written to it is seen nowhere else. It
// needs its own committer. Use it to find out what would happen.
func Fork(snap *Snapshot, clock func() time.Time) *Store {
	s := New(snap.schema, clock)
	for _, r := range s.rings {
		r.floor = snap.Version
	}
	s.snap.Store(snap)
	s.wakeWaiters()
	return s
}

// View is the newest snapshot.
func (s *Store) View() *Snapshot { return s.snap.Load() }

// Wait returns a snapshot that is at least as new as atLeast, once there is one. Feeds have every change up to it by then.
func (s *Store) Wait(ctx context.Context, atLeast Version) (*Snapshot, error) {
	return s.await(ctx, func(snap *Snapshot) bool { return snap.Version >= atLeast })
}

// WaitIndex returns a snapshot in which the log entry at index has been applied.
func (s *Store) WaitIndex(ctx context.Context, index uint64) (*Snapshot, error) {
	return s.await(ctx, func(snap *Snapshot) bool { return snap.Index >= index })
}

func (s *Store) await(ctx context.Context, enough func(*Snapshot) bool) (*Snapshot, error) {
	for {
		s.mu.Lock()
		snap, published := s.followed, s.published
		s.mu.Unlock()
		if enough(snap) {
			return snap, nil
		}
		select {
		case <-published:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a newer state: %w", context.Cause(ctx))
		}
	}
}

// publish makes the writer's snapshot the newest, then tells the feeds, then those who wait: nobody sees an event before its
// data, and who waited for the data finds all its events.
func (s *Store) publish(w *writer) {
	s.snap.Store(w.next)
	now := s.clock()
	for i, changes := range w.changes {
		if len(changes) > 0 {
			s.audit.stored(changes)
			s.rings[i].append(changes, now)
		}
	}
	s.wakeWaiters()
}

// ForgetOld lets go of changes that feeds do not keep for so long; new changes do the same for their own kind alone. Call it
// now and then.
func (s *Store) ForgetOld() {
	now := s.clock()
	for _, r := range s.rings {
		r.forget(now)
	}
}

func (s *Store) wakeWaiters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed = s.View()
	close(s.published)
	s.published = make(chan struct{})
}
