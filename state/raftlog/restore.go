package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/mainstay-cluster/mainstay/state"
)

// Restore replaces everything by snap, which another cluster's log may have made, and returns once that is on this disk. It is
// for a server that leads alone, in a directory made for it: what others had acknowledged would be lost.
func (l *Log) Restore(ctx context.Context, snap *state.Snapshot) error {
	if !l.alone() {
		return errors.New("restore a snapshot: other servers take part: restore into a new data directory")
	}
	var size length
	if err := snap.Persist(&size); err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	out, in := io.Pipe()
	defer out.Close()
	go func() { in.CloseWithError(snap.Persist(in)) }()
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: snap.Index, Size: int64(size)}
	if err := l.await(ctx, func() error { return l.raft.Restore(meta, out, 0) }); err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	return nil
}

// length counts what is written to it. Raft wants to know it beforehand.
type length int64

func (n *length) Write(p []byte) (int, error) {
	*n += length(len(p))
	return len(p), nil
}
