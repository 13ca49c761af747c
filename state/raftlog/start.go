package raftlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// snapshotBytes bounds what a restart replays: about three seconds.
	snapshotBytes = 256 << 20
	// snapshotEntries bounds it for clusters that write many small entries.
	snapshotEntries = 16 << 10
	// trailingLogs lets a server that was away for moments catch up without a snapshot; at 512 KiB each they stay under 512 MiB.
	trailingLogs = 1024
	// cachedLogs is for followers that are a little behind; it holds whole entries, so it is small.
	cachedLogs = 64
	// maxAppendEntries keeps one message to a follower at 8 MiB.
	maxAppendEntries = 16
	// patience is less than a third of raft's own default, so that a leader that died is replaced within a second: each of the
	// others misses it after one to three times that long, and all of a majority must. Shorter flaps on two busy cores.
	patience = 300 * time.Millisecond
)

func raftConfig(cfg Config, member raft.ServerID) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = member
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = cfg.Patience, cfg.Patience, lease(cfg)
	conf.MaxAppendEntries = maxAppendEntries
	conf.SnapshotThreshold, conf.TrailingLogs = snapshotEntries, trailingLogs
	conf.SnapshotInterval = time.Minute
	conf.NoLegacyTelemetry = true
	conf.Logger = raftLogger(cfg.Log)
	return conf
}

// lease is how long a leader leads without hearing from a majority: shorter than the others' patience, so that one that was
// cut off ends its duties before another begins.
func lease(cfg Config) time.Duration { return cfg.Patience * 5 / 6 }

// start brings raft up on an open disk.
func (l *Log) start(cfg Config, peers raft.Transport) error {
	conf := raftConfig(cfg, l.member)
	logs, err := raft.NewLogCache(cachedLogs, l.disk)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	l.logs = logs
	if cfg.Bootstrap && !l.disk.identity.now().Lost {
		if err := bootstrap(conf, l.disk, peers); err != nil {
			return err
		}
	}
	if l.raft, err = newRaft(conf, l, logs, peers); err != nil {
		return fmt.Errorf("start from %s: %w", cfg.Dir, l.judgeStart(err))
	}
	if l.alone() {
		return l.electNow(lease(cfg))
	}
	return nil
}

// newRaft is raft.NewRaft, which panics on a log with a hole, as one error.
func newRaft(conf *raft.Config, l *Log, logs raft.LogStore, transport raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the log has a hole or the newest snapshot is damaged: %v", p)
		}
	}()
	return raft.NewRaft(conf, l.fsm, logs, l.disk, l.disk.snapshots, transport)
}

// judgeStart says what kept raft from starting. A snapshot that is as it was written, and cannot be read, is not damaged.
func (l *Log) judgeStart(err error) error {
	if failed := l.failure.err(); failed != nil {
		return failed
	}
	if l.fsm.restore != nil {
		return errors.Join(err, l.fsm.restore)
	}
	return damaged(err)
}

// closeTransport ends what raft would, had it started.
func closeTransport(t raft.Transport) error {
	if closer, ok := t.(raft.WithClose); ok {
		return closer.Close()
	}
	return nil
}

// bootstrap makes a fresh directory a cluster of one. One that holds a cluster already is left alone.
func bootstrap(conf *raft.Config, d *disk, transport raft.Transport) error {
	members := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: conf.LocalID, Address: transport.LocalAddr()}}}
	err := raft.BootstrapCluster(conf, d, d, d.snapshots, transport, members)
	if errors.Is(err, raft.ErrCantBootstrap) {
		err = finishBootstrap(d, members)
	}
	if err != nil {
		return fmt.Errorf("bootstrap %s: %w", d.dir, err)
	}
	return nil
}

// bootstrapTerm is the term that raft.BootstrapCluster writes first, and that of the log's first entry, which it writes then.
const bootstrapTerm = 1

// finishBootstrap writes the first entry of a log whose server was killed when it had written the term alone. Raft takes that for a
// cluster that exists; it has no member, and would never have a leader.
func finishBootstrap(d *disk, members raft.Configuration) error {
	last, err := d.LastIndex()
	if err != nil {
		return err
	}
	taken, err := d.snapshots.List()
	if err != nil || last > 0 || len(taken) > 0 {
		return err
	}
	if term, err := d.GetUint64([]byte(termKey)); err != nil || term != bootstrapTerm {
		return err
	}
	return d.StoreLog(&raft.Log{Index: 1, Term: bootstrapTerm, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(members)})
}

// alone says whether this server is the only voter.
func (l *Log) alone() bool {
	future := l.raft.GetConfiguration()
	if future.Error() != nil {
		return false
	}
	for _, server := range future.Configuration().Servers {
		if server.ID != l.member && server.Suffrage == raft.Voter {
			return false
		}
	}
	return true
}

// electNow spares a server that has nobody to hear from the wait for a leader's heartbeat: raft looks again at once when
// the timeout becomes shorter.
func (l *Log) electNow(shorter time.Duration) error {
	usual := l.raft.ReloadableConfig()
	short := usual
	short.HeartbeatTimeout = shorter
	return errors.Join(l.raft.ReloadConfig(short), l.raft.ReloadConfig(usual))
}

// snapshotBySize takes a snapshot whenever enough bytes were applied; raft itself only counts entries.
func (l *Log) snapshotBySize(ctx context.Context) {
	for {
		select {
		case <-l.fsm.full:
		case <-ctx.Done():
			return
		}
		start := time.Now()
		err := l.await(ctx, func() error { return l.raft.Snapshot().Error() })
		switch {
		case err == nil:
			l.log.Info("snapshot taken", "took", time.Since(start))
		case ctx.Err() == nil && !errors.Is(err, raft.ErrNothingNewToSnapshot):
			l.log.Warn("snapshot not taken; the log grows until one is", "err", err)
		}
	}
}
