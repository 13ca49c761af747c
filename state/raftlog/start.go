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
	// The timeouts are raft's own defaults: shorter ones flap on two busy cores.
	heartbeatTimeout = time.Second
	electionTimeout  = time.Second
	leaseTimeout     = 500 * time.Millisecond
)

func raftConfig(cfg Config) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(cfg.ID)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = heartbeatTimeout, electionTimeout, leaseTimeout
	conf.MaxAppendEntries = maxAppendEntries
	conf.SnapshotThreshold, conf.TrailingLogs = snapshotEntries, trailingLogs
	conf.SnapshotInterval = time.Minute
	conf.NoLegacyTelemetry = true
	conf.Logger = raftLogger(cfg.Log)
	return conf
}

// start brings raft up on an open disk.
func (l *Log) start(cfg Config) error {
	conf := raftConfig(cfg)
	logs, err := raft.NewLogCache(cachedLogs, l.disk)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	if cfg.Bootstrap {
		if err := bootstrap(conf, l.disk, cfg.Transport); err != nil {
			return err
		}
	}
	if l.raft, err = newRaft(conf, l, logs, cfg.Transport); err != nil {
		return fmt.Errorf("start from %s: %w: %s", cfg.Dir, errors.Join(err, l.fsm.restore), l.disk.remedy())
	}
	if l.alone() {
		return l.electNow()
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

// bootstrap makes a fresh directory a cluster of one. One that holds a cluster already is left alone.
func bootstrap(conf *raft.Config, d *disk, transport raft.Transport) error {
	self := raft.Server{Suffrage: raft.Voter, ID: conf.LocalID, Address: transport.LocalAddr()}
	err := raft.BootstrapCluster(conf, d, d, d.snapshots, transport, raft.Configuration{Servers: []raft.Server{self}})
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap %s: %w", d.dir, err)
	}
	return nil
}

// alone says whether this server is the only voter.
func (l *Log) alone() bool {
	future := l.raft.GetConfiguration()
	if future.Error() != nil {
		return false
	}
	for _, server := range future.Configuration().Servers {
		if server.ID != raft.ServerID(l.id) && server.Suffrage == raft.Voter {
			return false
		}
	}
	return true
}

// electNow spares a server that has nobody to hear from the wait for a leader's heartbeat: raft looks again at once when
// the timeout becomes shorter.
func (l *Log) electNow() error {
	usual := l.raft.ReloadableConfig()
	short := usual
	short.HeartbeatTimeout = leaseTimeout
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
