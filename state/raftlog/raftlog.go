// Package raftlog is the store's log: hashicorp/raft over bbolt behind state.Log, with the duties of a leader, membership and
// snapshots. It never looks into an entry and decides nothing about the cluster. It stops for good (see Done) at the first
// sign that its disk lies; a full disk it waits out. Start at Open, then Log.Lead.
package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	// Streams reach the other servers. Nil is for a server that will never have any.
	Streams *Streams
	// Registry takes the metrics; nil keeps none.
	Registry prometheus.Registerer
	// SnapshotBytes is how much is appended between two snapshots; 0 is 256 MiB.
	SnapshotBytes int64
	// Patience is how long a leader may be silent before the others look for a new one; 0 is 300 ms. Hosts that are often busy
	// for longer than that want more. It should be the same on all servers.
	Patience time.Duration

	moments moments // for tests
}

// Log is one server's member of the cluster's log. It implements state.Log and is safe for concurrent use.
type Log struct {
	id      string
	member  raft.ServerID // what raft calls this server
	log     *slog.Logger
	raft    *raft.Raft
	disk    *disk
	logs    raft.LogStore // disk, through a cache
	fsm     *fsm
	metrics *metrics
	failure *failure
	streams *Streams // nil: there are no other servers
	asker   *asker
	news    *news
	opened  time.Time

	stop      context.CancelFunc
	owned     sync.WaitGroup // the snapshotter, and what answers other servers
	closeOnce sync.Once
	closeErr  error

	changing chan struct{} // capacity 1: a token, held by who changes the members

	mu        sync.Mutex
	confirmed uint64 // the term in which everything older is known to be applied here; guarded by mu
}

var _ state.Log = (*Log)(nil)

// Open starts this server's member. It restores the newest good snapshot into cfg.Store and begins to replay the log; Lead and
// Append wait for the rest. The caller keeps other processes out of cfg.Dir. A directory whose log is damaged is set aside if
// other servers have what it held: then this one begins with an empty log, votes for nobody, and is a member again once the
// leader has made it one. Else Open's errors say what to do about the directory.
func Open(cfg Config) (*Log, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SnapshotBytes == 0 {
		cfg.SnapshotBytes = snapshotBytes
	}
	if cfg.Patience == 0 {
		cfg.Patience = patience
	}
	var empty bytes.Buffer
	if err := cfg.Store.View().Persist(&empty); err != nil {
		return nil, fmt.Errorf("look at the store: %w", err)
	}
	if cfg.moments == nil {
		cfg.moments = fromOutside()
	}
	peers := transport(cfg)
	l, err := open(cfg, peers)
	var broken *damage
	if errors.As(err, &broken) {
		why := err
		if err = setAside(cfg, why); err != nil {
			err = fmt.Errorf("%w: %w: %s", why, err, remedy(cfg.Dir))
		} else if err = cfg.Store.Restore(&empty); err == nil {
			l, err = open(cfg, peers)
		}
	}
	if err != nil {
		return nil, errors.Join(err, closeTransport(peers))
	}
	l.begin(cfg, peers)
	return l, nil
}

// open brings raft up on what cfg.Dir holds.
func open(cfg Config, peers raft.Transport) (*Log, error) {
	failure := newFailure()
	d, err := openDisk(cfg, failure)
	if err != nil {
		return nil, err
	}
	l := &Log{
		id: cfg.ID, member: raft.ServerID(d.identity.now().Member), log: cfg.Log, disk: d, failure: failure, streams: cfg.Streams,
		asker: &asker{streams: cfg.Streams, idle: map[string][]net.Conn{}}, news: newNews(), changing: make(chan struct{}, 1), opened: time.Now(),
	}
	l.fsm = newFSM(cfg.Store, failure, cfg.SnapshotBytes)
	l.fsm.moments = cfg.moments
	if err := apart(failure, func() error { return l.start(cfg, peers) }); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return l, nil
}

// begin starts what goes on beside raft.
func (l *Log) begin(cfg Config, peers raft.Transport) {
	l.metrics = newMetrics(cfg.Registry, l)
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.owned.Go(func() { l.snapshotBySize(ctx) })
	l.owned.Go(func() { l.news.follow(ctx, l.raft) })
	l.owned.Go(func() { l.noteMembersLong(ctx) })
	if l.streams == nil {
		return
	}
	l.owned.Go(func() { l.answerAll(ctx) })
	l.owned.Go(func() {
		peers.(*ballots).pass(ctx, func() bool {
			_, member := l.suffrage()
			return member
		})
	})
	l.owned.Go(func() { l.watchOutside(ctx, outsideEvery*cfg.Patience) })
	if l.disk.identity.now().Lost {
		l.owned.Go(func() { l.comeBack(ctx) })
	}
}

// Done is closed when this server may not go on: its disk returned an error other than "full", or an entry could not be
// read. Err says why. The process should exit; nothing is acknowledged any more.
func (l *Log) Done() <-chan struct{} { return l.failure.done }

// Err is why Done is closed, nil before.
func (l *Log) Err() error { return l.failure.err() }

// Leader names the server that leads as this one knows it: "", "" if there is none.
func (l *Log) Leader() (id, address string) {
	addr, server := l.raft.LeaderWithID()
	return serverOf(server), string(addr)
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
