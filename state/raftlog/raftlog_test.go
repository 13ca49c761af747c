package raftlog_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": value}}
}

// server is a store on a log of its own.
type server struct {
	*raftlog.Log
	store *state.Store
	stop  func()
}

// open starts a single server on dir and waits until it writes.
func open(t testing.TB, dir string) *server {
	t.Helper()
	s, err := start(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.awaitLeading(t)
	return s
}

func start(dir string, snapshotBytes int64) (*server, error) {
	return startBreaking(dir, snapshotBytes, nil)
}

func startBreaking(dir string, snapshotBytes int64, at func(point string) error) (*server, error) {
	store := state.New(tables.Schema(), time.Now)
	cfg := raftlog.Config{Dir: dir, ID: "s1", Store: store, Bootstrap: true, SnapshotBytes: snapshotBytes}
	cfg.BreakAt(at)
	log, err := raftlog.Open(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	led := make(chan error, 1)
	go func() { led <- log.Lead(ctx, func(ctx context.Context) error { return store.Commit(ctx, log) }) }()
	stopped := false
	return &server{log, store, func() {
		if !stopped {
			stopped = true
			cancel()
			<-led
			_ = log.Close()
		}
	}}, nil
}

func (s *server) awaitLeading(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.store.Leading(ctx); err != nil {
		t.Fatalf("no leader after 10 s: %v", err)
	}
}

func (s *server) put(t testing.TB, name, value string) {
	t.Helper()
	if err := s.try(name, value); err != nil {
		t.Fatal(err)
	}
}

func (s *server) try(name, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := s.store.Update(ctx, func(tx *state.Txn) error {
		tx.Create(configMap(name, value))
		return nil
	})
	return err
}

func (s *server) has(name string) bool {
	_, ok := state.Get[*corev1.ConfigMap](s.store.View(), state.Key{Namespace: "default", Name: name})
	return ok
}

func TestWritesSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	for i := range 20 {
		s.put(t, fmt.Sprint("cm", i), "x")
	}
	version := s.store.View().Version
	s.stop()
	s = open(t, dir)
	if got := s.store.View().Version; got != version || !s.has("cm19") {
		t.Errorf("version %d after restart, want %d", got, version)
	}
}

func TestASingleServerLeadsWithin100ms(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	open(t, dir).stop()
	best := time.Hour
	for range 5 {
		start := time.Now()
		s := open(t, dir)
		best = min(best, time.Since(start))
		s.stop()
	}
	if best > 100*time.Millisecond {
		t.Errorf("%v from start to writing, want at most 100ms", best)
	}
	t.Logf("%v from start to writing", best)
}
