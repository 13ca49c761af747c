package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// member is a server whose inside a test may break.
type member struct {
	*Log
	store  *state.Store
	at     *Streams
	cfg    Config
	end    func()     // as its process does
	led    chan error // what Lead returned
	causes chan error // why each term's duties ended
	ctx    context.Context
}

func newStore() *state.Store { return state.New(tables.Schema(), time.Now) }

func newMember(t testing.TB, cfg Config) *member {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = newStore()
	}
	log, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{Log: log, store: cfg.Store, at: cfg.Streams, cfg: cfg, led: make(chan error, 1), causes: make(chan error, 100), ctx: ctx}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.led <- log.Lead(ctx, func(ctx context.Context) error {
			err := m.store.Commit(ctx, log)
			m.causes <- context.Cause(ctx)
			return err
		})
	}()
	m.end = sync.OnceFunc(func() {
		cancel()
		<-ended
		_ = log.Close()
	})
	t.Cleanup(m.end)
	return m
}

func (m *member) address() string { return m.at.address.String() }

func (m *member) create(name string, size int) error {
	ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
	defer cancel()
	_, err := m.store.Update(ctx, func(tx *state.Txn) error {
		tx.Create(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Data:       map[string]string{"v": strings.Repeat("x", size)},
		})
		return nil
	})
	return err
}

func (m *member) awaitLeading(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
	defer cancel()
	if err := m.store.Leading(ctx); err != nil {
		t.Fatal(err)
	}
}

// soon fails the test if what was awaited does not come.
func soon[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing after 20 s", what)
		panic("unreachable")
	}
}

func TestADiskErrorEndsTheServer(t *testing.T) {
	m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true})
	m.awaitLeading(t)
	if err := m.disk.BoltStore.Close(); err != nil { // Every later write fails, and not for want of space.
		t.Fatal(err)
	}
	if err := m.create("a", 1); !errors.Is(err, state.ErrUnknown) {
		t.Errorf("a write on a broken disk ended with %v, want ErrUnknown", err)
	}
	soon(t, "Done", m.Done())
	if err := soon(t, "Lead", m.led); err == nil || !strings.Contains(err.Error(), "cannot be trusted") {
		t.Errorf("Lead ended with %v", err)
	}
	if err := m.create("b", 1); !errors.Is(err, state.ErrNotLeader) {
		t.Errorf("a later write ended with %v, want ErrNotLeader", err)
	}
	if _, err := m.ReadIndex(m.ctx); err == nil {
		t.Error("ReadIndex on a server that stopped")
	}
}

func TestAnEntryThatCannotBeReadEndsTheServer(t *testing.T) {
	m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true})
	m.awaitLeading(t)
	if _, err := m.Append(m.ctx, []byte("not an entry at all")); !errors.Is(err, state.ErrUnknown) {
		t.Errorf("Append = %v, want ErrUnknown", err)
	}
	soon(t, "Done", m.Done())
	if !strings.Contains(m.Err().Error(), "newer Mainstay") {
		t.Errorf("Err = %v", m.Err())
	}
}

// A full disk takes nothing, loses nothing that was acknowledged (P10), leaves reads alone, and needs no restart.
func TestADiskThatIsFullIsWaitedOut(t *testing.T) {
	mount := small(t)
	dir := filepath.Join(mount, "raft")
	m := newMember(t, Config{Dir: dir, ID: "s1", Bootstrap: true})
	m.awaitLeading(t)
	if err := m.create("before", 1000); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(mount, "ballast"))
	acked := []string{"before"}
	var refused error
	for i := 0; refused == nil && i < 1000; i++ {
		name := fmt.Sprint("full", i)
		if refused = m.create(name, 100_000); refused == nil {
			acked = append(acked, name)
		}
	}
	if refused == nil {
		t.Fatal("a full disk took 100 MB")
	}
	if _, ok := state.Get[*corev1.ConfigMap](m.store.View(), state.Key{Namespace: "default", Name: "before"}); !ok {
		t.Error("a read failed while the disk was full")
	}
	if err := os.Remove(filepath.Join(mount, "ballast")); err != nil {
		t.Fatal(err)
	}
	m.awaitWritable(t, "after")
	if m.Err() != nil {
		t.Fatalf("a full disk ended the server: %v", m.Err())
	}
	mustHave(t, m.store, append(acked, "after"))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	again := newMember(t, Config{Dir: dir, ID: "s1", Bootstrap: true})
	again.awaitLeading(t)
	mustHave(t, again.store, append(acked, "after"))
}

// awaitWritable creates name as soon as the server takes writes again.
func (m *member) awaitWritable(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
	defer cancel()
	for {
		if err := m.store.Leading(ctx); err != nil {
			t.Fatal("no writes 20 s after space was freed")
		}
		if err := m.create(name, 1); err == nil || errors.Is(err, state.ErrConflict) {
			return
		}
	}
}

func mustHave(t *testing.T, s *state.Store, names []string) {
	t.Helper()
	for _, name := range names {
		if _, ok := state.Get[*corev1.ConfigMap](s.View(), state.Key{Namespace: "default", Name: name}); !ok {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

// fill takes all the space there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); err == nil; _, err = f.Write(block) {
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestAnotherServerTakesOverWithEverythingAndTheOldDutiesEnd(t *testing.T) {
	members, _ := three(t)
	if err := members[0].create("a", 1); err != nil {
		t.Fatal(err)
	}
	if err := members[0].TransferLeadership(t.Context(), "s2"); err != nil {
		t.Fatal(err)
	}
	members[1].awaitLeading(t)
	mustHave(t, members[1].store, []string{"a"}) // Duties begin with a complete state.
	if err := members[0].create("b", 1); !errors.Is(err, state.ErrNotLeader) {
		t.Errorf("the old leader wrote: %v", err)
	}
	if err := members[1].create("b", 1); err != nil {
		t.Error(err)
	}
	index, err := members[1].ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := members[2].store.WaitIndex(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	mustHave(t, members[2].store, []string{"a", "b"})
	if id, _ := members[2].Leader(); id != "s2" {
		t.Errorf("leader = %q, want s2", id)
	}
}

func TestALeaderCutOffEndsItsDutiesWithTheCause(t *testing.T) {
	members, _ := three(t)
	for _, m := range members[1:] {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if cause := soon(t, "end of duties", members[0].causes); !errors.Is(cause, ErrLeadershipLost) {
		t.Errorf("cause = %v, want ErrLeadershipLost", cause)
	}
	if err := members[0].create("b", 1); !errors.Is(err, state.ErrNotLeader) {
		t.Errorf("a leader without a quorum wrote: %v", err)
	}
}

func TestDutiesThatFailAreTriedAgain(t *testing.T) {
	log, err := Open(Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Store: state.New(tables.Schema(), time.Now)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(t.Context())
	calls, running := 0, 0
	err = log.Lead(ctx, func(context.Context) error {
		if running++; running > 1 {
			t.Error("duties run twice at a time")
		}
		defer func() { running-- }()
		if calls++; calls == 3 {
			cancel()
		}
		return errors.New("broken part")
	})
	if calls != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d calls, Lead = %v, want 3 and the context's error", calls, err)
	}
}

// A reader that asks for an index must never wait for one that the store will not see, such as a barrier's.
func TestReadIndexIsReachedByTheStore(t *testing.T) {
	m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true})
	m.awaitLeading(t)
	if err := m.create("a", 1); err != nil {
		t.Fatal(err)
	}
	if err := m.raft.Barrier(0).Error(); err != nil {
		t.Fatal(err)
	}
	index, err := m.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	snap, err := m.store.WaitIndex(ctx, index)
	if err != nil {
		t.Fatal(err)
	}
	if state.Len[*corev1.ConfigMap](snap) != 1 {
		t.Error("an acknowledged write is not in what ReadIndex promises")
	}
}

// Nor is a snapshot of such a server damaged: it is not set aside, and another one would not do.
func TestASnapshotThatCannotBeReadEndsTheServer(t *testing.T) {
	m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true})
	m.awaitLeading(t)
	if err := m.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	m.end()
	older := tables.Schema()
	state.SetLevels(older, state.Levels{Known: 1, Reached: func(state.Reader) int { return 2 }})
	cfg := m.cfg
	cfg.Store = state.New(older, time.Now)
	_, err := Open(cfg)
	var broken *damage
	if !errors.Is(err, state.ErrNewer) || errors.As(err, &broken) {
		t.Errorf("Open = %v", err)
	}
	f := newFSM(cfg.Store, newFailure(), snapshotBytes)
	var sent bytes.Buffer
	if err := m.store.View().Persist(&sent); err != nil {
		t.Fatal(err)
	}
	if err := f.Restore(io.NopCloser(&sent)); !errors.Is(err, state.ErrNewer) || !errors.Is(f.failure.err(), state.ErrNewer) {
		t.Errorf("sent by the leader: %v, and it ends with %v", err, f.failure.err())
	}
}
