// Package raftlog is the store's log: hashicorp/raft over bbolt behind state.Log, with the duties of a leader, membership and
// snapshots. It never looks into an entry and decides nothing about the cluster. It stops for good (see Done) at the first
// sign that its disk lies; a full disk it waits out. Start at Open, then Log.Lead.
package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/state"
)

// Config says where a server keeps its log and how it reaches the others.
type Config struct {
	Dir   string       // belongs to this package alone; made with mode 0700 if it is missing
	ID    string       // names this server in the cluster for ever
	Store *state.Store // an empty store; Open fills it from the snapshot, raft from the log
	Log   *slog.Logger // discards if nil

	// Bootstrap starts a cluster of this one server if Dir holds none yet. Without it an empty server waits to be added.
	Bootstrap bool
	// Transport reaches the other servers. Nil is for a single server: in memory, so that no port is open.
	Transport raft.Transport
	// Registry takes the metrics; nil keeps none.
	Registry prometheus.Registerer
	// SnapshotBytes is how much is appended between two snapshots; 0 is 256 MiB.
	SnapshotBytes int64
}

// Log is one server's member of the cluster's log. It implements state.Log and is safe for concurrent use.
type Log struct {
	id      string
	log     *slog.Logger
	raft    *raft.Raft
	disk    *disk
	fsm     *fsm
	metrics *metrics
	failure *failure

	stop      context.CancelFunc
	owned     sync.WaitGroup // the snapshotter
	closeOnce sync.Once
	closeErr  error

	mu        sync.Mutex
	confirmed uint64 // the term in which everything older is known to be applied here; guarded by mu
}

var _ state.Log = (*Log)(nil)

// Open starts this server's member. It takes the lock on cfg.Dir, restores the newest good snapshot into cfg.Store and
// begins to replay the log; Lead and Append wait for the rest. Its errors say what to do about the directory.
func Open(cfg Config) (*Log, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SnapshotBytes == 0 {
		cfg.SnapshotBytes = snapshotBytes
	}
	if cfg.Transport == nil {
		_, cfg.Transport = raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
	}
	failure := newFailure()
	d, err := openDisk(cfg, failure)
	if err != nil {
		return nil, err
	}
	l := &Log{id: cfg.ID, log: cfg.Log, disk: d, failure: failure}
	l.fsm = newFSM(cfg.Store, failure, cfg.SnapshotBytes)
	if err := apart(failure, func() error { return l.start(cfg) }); err != nil {
		return nil, errors.Join(err, d.close())
	}
	l.metrics = newMetrics(cfg.Registry, l)
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.owned.Go(func() { l.snapshotBySize(ctx) })
	return l, nil
}

// Done is closed when this server may not go on: its disk returned an error other than "full", or an entry could not be
// read. Err says why. The process should exit; nothing is acknowledged any more.
func (l *Log) Done() <-chan struct{} { return l.failure.done }

// Err is why Done is closed, nil before.
func (l *Log) Err() error { return l.failure.err() }

// Leader names the server that leads as this one knows it: "", "" if there is none.
func (l *Log) Leader() (id, address string) {
	addr, server := l.raft.LeaderWithID()
	return string(server), string(addr)
}

// Close leaves the cluster's log as it is and releases the directory. Whoever waits in Append or Lead returns.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.stop()
		l.disk.stop()
		err := l.raft.Shutdown().Error()
		l.owned.Wait()
		l.metrics.unregister()
		l.closeErr = errors.Join(err, l.disk.close())
	})
	return l.closeErr
}

// failure is the first reason not to go on. It is safe for concurrent use.
type failure struct {
	once  sync.Once
	cause error
	done  chan struct{}
}

func newFailure() *failure { return &failure{done: make(chan struct{})} }

func (f *failure) set(err error) {
	f.once.Do(func() {
		f.cause = err
		close(f.done)
	})
}

func (f *failure) err() error {
	select {
	case <-f.done:
		return f.cause
	default:
		return nil
	}
}

// apart runs start on a goroutine of its own, because the disk ends the goroutine that it cannot serve.
func apart(f *failure, start func() error) error {
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- start()
	}()
	if err, returned := <-done; returned {
		return err
	}
	return errors.Join(errors.New("start raft"), f.err())
}

// await waits for one of raft's futures, which know no context.
func (l *Log) await(ctx context.Context, wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-l.failure.done:
		return l.failure.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enqueueTimeout bounds how long an entry waits for raft to take it: longer than any healthy disk takes for the one before.
const enqueueTimeout = 10 * time.Second

// Append implements state.Log.
func (l *Log) Append(ctx context.Context, entry []byte) ([]error, error) {
	start := time.Now()
	var results []error
	err := l.await(ctx, func() error {
		future := l.raft.Apply(entry, enqueueTimeout)
		if err := future.Error(); err != nil {
			return err
		}
		applied, ok := future.Response().(applied)
		if !ok {
			return errors.New("the entry was not applied here")
		}
		results = applied.results
		return nil
	})
	if err != nil {
		return nil, outcome(err)
	}
	l.metrics.appended(len(entry), time.Since(start))
	return results, nil
}

// outcome sorts raft's errors into the two that the store knows.
func outcome(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", state.ErrNotLeader, err)
	default:
		return fmt.Errorf("%w: %w", state.ErrUnknown, err)
	}
}
