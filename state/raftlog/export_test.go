package raftlog

import "github.com/hashicorp/raft"

// BreakAt has at hear of each point between two things that happen to the disk; its errors are the disk's.
func (c *Config) BreakAt(at func(point string) error) { c.moments = at }

// TrimSoon has snapshots trim the log to a few entries.
func (l *Log) TrimSoon() error {
	soon := l.raft.ReloadableConfig()
	soon.TrailingLogs = 10
	return l.raft.ReloadConfig(soon)
}

var _ raft.LogStore = (*disk)(nil)
