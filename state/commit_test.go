package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
)

// gate is a Log that applies an entry when it is let through.
type gate struct {
	store   *Store
	index   uint64
	entries chan []byte // unbuffered: what is appended
	let     chan error  // what becomes of it
}

func newGate() *gate {
	return &gate{store: New(testSchema(), fixedClock), entries: make(chan []byte), let: make(chan error)}
}

func (g *gate) Append(ctx context.Context, entry []byte) ([]error, error) {
	select {
	case g.entries <- entry:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := <-g.let; err != nil {
		return nil, err
	}
	g.index++
	return g.store.Apply(g.index, entry), nil
}

// lead starts a committer and lets its first entry through.
func (g *gate) lead(ctx context.Context) (ended chan error) {
	ended = make(chan error, 1)
	go func() { ended <- g.store.Commit(ctx, g) }()
	<-g.entries
	g.let <- nil
	synctest.Wait()
	return ended
}

// create starts one Update that makes a ConfigMap.
func (g *gate) create(ctx context.Context, name, value string) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := g.store.Update(ctx, func(tx *Txn) error {
			tx.Create(build("ConfigMap", name, value, ""))
			return nil
		})
		done <- err
	}()
	synctest.Wait()
	return done
}

func TestTransactionsThatQueueShareTheNextEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		ctx, cancel := context.WithCancel(t.Context())
		ended := g.lead(ctx)
		var done []chan error
		for i := range 10 {
			done = append(done, g.create(ctx, fmt.Sprint("cm", i), ""))
		}
		if got := g.store.QueueLen(); got != 9 {
			t.Errorf("%d wait, want 9: the first is under way", got)
		}
		for range 2 {
			<-g.entries
			g.let <- nil
		}
		for i, d := range done {
			if err := <-d; err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if g.index != 3 || Len[*corev1.ConfigMap](g.store.View()) != 10 {
			t.Errorf("%d objects in %d entries, want 10 in 3", Len[*corev1.ConfigMap](g.store.View()), g.index)
		}
		cancel()
		<-ended
	})
}

func TestWhenTheTermEndsNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		ended := g.lead(t.Context())
		underWay := g.create(t.Context(), "a", "")
		queued := g.create(t.Context(), "b", "")
		<-g.entries
		g.let <- errors.New("leadership lost while committing")
		if err := <-underWay; !errors.Is(err, ErrUnknown) {
			t.Errorf("the one under way: %v, want ErrUnknown", err)
		}
		if err := <-queued; !errors.Is(err, ErrNotLeader) {
			t.Errorf("the one that was queued: %v, want ErrNotLeader", err)
		}
		if err := <-ended; err == nil {
			t.Error("Commit went on after its log failed")
		}
		if err := <-g.create(t.Context(), "c", ""); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a later one: %v, want ErrNotLeader", err)
		}
	})
}

func TestACallerThatGivesUpDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		term, cancelTerm := context.WithCancel(t.Context())
		ended := g.lead(term)
		ctx, cancel := context.WithCancel(t.Context())
		done := g.create(ctx, "a", "")
		cancel()
		if err := <-done; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want ErrUnknown and the context's", err)
		}
		<-g.entries
		g.let <- nil
		cancelTerm()
		<-ended
	})
}

// staged is the entries of a transaction of several parts.
func stagedCreate(s *Store, name string) [][]byte {
	tx := &Txn{base: s.View(), now: fixedClock()}
	tx.Create(build("ConfigMap", name, strings.Repeat("x", 100), ""))
	return slices.Collect(stagedEntries(s.View().Index+1, encodeTxn(tx.ops), 50))
}

func TestAStagedTransactionTakesEffectWholeOrNotAtAll(t *testing.T) {
	for name, tc := range map[string]struct {
		instead func(s *Store, entries [][]byte) [][]byte
		want    error
	}{
		"as it was sent": {func(_ *Store, e [][]byte) [][]byte { return e }, nil},
		"a new term in between": {func(_ *Store, e [][]byte) [][]byte {
			return slices.Insert(slices.Clone(e), 1, sealEntry(typeTerm, nil))
		}, ErrConflict},
		"a part is missing": {func(_ *Store, e [][]byte) [][]byte { return slices.Delete(slices.Clone(e), 1, 2) }, ErrConflict},
		"only the flip":     {func(_ *Store, e [][]byte) [][]byte { return e[len(e)-1:] }, ErrConflict},
		"a newer one began": {func(s *Store, e [][]byte) [][]byte { return slices.Concat(e[:1], newer(s)[:1], e[1:]) }, ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(testSchema(), fixedClock)
			entries := tc.instead(s, stagedCreate(s, "a"))
			var err error
			for i, entry := range entries {
				if Len[*corev1.ConfigMap](s.View()) != 0 {
					t.Fatal("something is visible before the last part")
				}
				for _, err = range s.Apply(uint64(i+1), entry) {
				}
			}
			if !errors.Is(err, tc.want) || (err == nil) != (Len[*corev1.ConfigMap](s.View()) == 1) {
				t.Errorf("err = %v with %d objects, want %v", err, Len[*corev1.ConfigMap](s.View()), tc.want)
			}
			if len(s.View().staged.parts) != 0 {
				t.Error("parts are kept after the flip")
			}
		})
	}
}

// newer is a staged transaction with another id.
func newer(s *Store) [][]byte {
	tx := &Txn{base: s.View(), now: fixedClock()}
	tx.Create(build("ConfigMap", "b", strings.Repeat("x", 100), ""))
	return slices.Collect(stagedEntries(99, encodeTxn(tx.ops), 50))
}
