package raftlog

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/mainstay-cluster/mainstay/state"
)

// fsm hands what raft has committed to the store.
type fsm struct {
	store   *state.Store
	failure *failure
	every   int64
	since   atomic.Int64  // bytes applied since the last snapshot
	full    chan struct{} // capacity 1: a token, since reached every
	members chan struct{} // capacity 1: a token, the members have changed
	moments moments       // for tests
	restore error         // why the last restore did not work; read only after NewRaft
}

// applied is what Append finds in the future of its entry.
type applied struct{ results []error }

func newFSM(store *state.Store, f *failure, every int64) *fsm {
	return &fsm{store: store, failure: f, every: every, full: make(chan struct{}, 1), members: make(chan struct{}, 1)}
}

// Apply implements raft.FSM. An entry that the store cannot read ends this server; it is never skipped.
func (f *fsm) Apply(entry *raft.Log) any {
	var results []error
	err := f.moments.around("apply "+state.EntryName(entry.Data), func() (err error) {
		results, err = f.apply(entry)
		return err
	})
	if err != nil {
		f.failure.set(err)
		runtime.Goexit() // Raft has no way to refuse an entry: going on would skip it.
	}
	if f.since.Add(int64(len(entry.Data))) >= f.every {
		token(f.full)
	}
	return applied{results}
}

// StoreConfiguration implements raft.ConfigurationStore.
func (f *fsm) StoreConfiguration(uint64, raft.Configuration) { token(f.members) }

// token leaves one in c, unless there is one.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (f *fsm) apply(entry *raft.Log) (results []error, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("apply log entry %d: %v", entry.Index, p)
		}
	}()
	return f.store.Apply(entry.Index, entry.Data), nil
}

// Snapshot implements raft.FSM: it takes a pointer.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return &frozen{snap: f.store.View(), fsm: f, bytes: f.since.Load()}, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	f.restore = f.store.Restore(r)
	if errors.Is(f.restore, state.ErrNewer) {
		f.failure.set(f.restore) // No other snapshot would do: raft would ask for the same one for ever.
	}
	f.since.Store(0)
	token(f.members)
	return f.restore
}

// frozen is the state at the moment of a snapshot.
type frozen struct {
	snap  *state.Snapshot
	fsm   *fsm
	bytes int64 // that it covers
}

// Persist implements raft.FSMSnapshot. It runs beside Apply.
func (s *frozen) Persist(sink raft.SnapshotSink) error {
	if err := s.fsm.moments.around("write a snapshot", func() error { return s.snap.Persist(sink) }); err != nil {
		return fmt.Errorf("persist: %w", err)
	}
	s.fsm.since.Add(-s.bytes)
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *frozen) Release() {}
