// Package statetest makes stores for tests: the real store on a Log that applies at once. There is no other fake.
package statetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Log applies every entry at once to one store. It keeps nothing.
type Log struct {
	Store *state.Store

	mu    sync.Mutex
	index uint64
}

// Append implements state.Log.
func (l *Log) Append(_ context.Context, entry []byte) ([]error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	return l.Store.Apply(l.index, entry), nil
}

// New makes a store of Mainstay's own schema whose writes take effect at once, until the test ends.
func New(t testing.TB, objects ...object.Object) *state.Store {
	t.Helper()
	return Run(t, state.New(tables.Schema(), time.Now), objects...)
}

// Run gives a store a committer until the test ends, and writes objects to it. The test fails if anybody changes an object
// of the store without copying it first.
func Run(t testing.TB, s *state.Store, objects ...object.Object) *state.Store {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	unchanged := state.Audited(s, func(err error) { t.Error(err) })
	go func() {
		defer close(done)
		_ = s.Commit(ctx, &Log{Store: s, index: s.View().Index})
	}()
	if err := s.Leading(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-done
		unchanged()
	})
	if len(objects) > 0 {
		Put(t, s, objects...)
	}
	return s
}

// Put creates objects, with their status, in one transaction.
func Put(t testing.TB, s *state.Store, objects ...object.Object) {
	t.Helper()
	if _, err := s.Update(t.Context(), func(tx *state.Txn) error {
		for _, o := range objects {
			tx.Create(o.DeepCopyObject().(object.Object))
		}
		return nil
	}); err != nil {
		t.Fatalf("put: %v", err)
	}
}

// Update is s.Update for tests that do not expect an error.
func Update(t testing.TB, s *state.Store, fn func(tx *state.Txn)) state.Version {
	t.Helper()
	v, err := s.Update(t.Context(), func(tx *state.Txn) error {
		fn(tx)
		return nil
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return v
}
