package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// spaceNeeded is what must be free before a server whose disk was full takes part again: a few of the largest entries.
	spaceNeeded = 8 << 20
	// spaceProbe is how often a server whose disk is full looks again. Nobody tells when space comes back.
	spaceProbe = 250 * time.Millisecond
)

// What is done to the log, in errors.
const (
	appending = "append to the log"
	trimming  = "trim the log"
)

// disk is raft's log and stable store. It differs from the one it wraps in what an error does:
//
// A full disk refuses entries, so the server stops leading; before it starts a new term it then waits for space, instead of
// holding elections that it cannot record. Reads go on.
//
// Any other error ends the server: after a failed fsync nobody knows what is on the disk, and a leader that tries again
// may acknowledge what it will not find later.
type disk struct {
	*raftboltdb.BoltStore
	dir       string
	log       *slog.Logger
	snapshots *snapshots
	identity  *identity
	failure   *failure
	moments   moments
	full      atomic.Bool
	closing   context.Context
	stop      context.CancelFunc
}

// judge sorts out what an error means and returns it with what to do.
func (d *disk) judge(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case isFull(err):
		if !d.full.Swap(true) {
			d.log.Error("disk full: nothing is written until there is space; reads go on", "dir", d.dir, "needed", spaceNeeded, "err", err)
		}
		return fmt.Errorf("%s: %s: %w", doing, d.trouble(), err)
	case d.closing.Err() != nil:
		return err
	}
	remedy := "the disk cannot be trusted, so this server stops; check it before starting again"
	if broken := (*damage)(nil); errors.As(err, &broken) {
		remedy = "this is not what was written, so this server stops; started again, it gets everything from the others, if there are any"
	}
	err = fmt.Errorf("%s in %s: %w: %s", doing, d.dir, err, remedy)
	d.failure.set(err)
	return err
}

// trouble says why nothing is written, empty if it is.
func (d *disk) trouble() string {
	if !d.full.Load() {
		return ""
	}
	return fmt.Sprintf("the disk of %s is full: free at least %d MiB", d.dir, spaceNeeded>>20)
}

// Trouble says why this server writes nothing, and what to do; it is empty if nothing is known that hinders it.
func (l *Log) Trouble() string { return l.disk.trouble() }

// isFull recognises ENOSPC and EDQUOT, by their text too: bbolt does not wrap all errors.
func isFull(err error) bool {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) || strings.Contains(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}

// written notes that the disk has space again.
func (d *disk) written() {
	if d.full.Swap(false) {
		d.log.Info("disk has space again", "dir", d.dir)
	}
}

// StoreLog implements raft.LogStore.
func (d *disk) StoreLog(log *raft.Log) error { return d.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (d *disk) StoreLogs(logs []*raft.Log) error {
	if err := d.failure.err(); err != nil {
		return err
	}
	kept := make([]*raft.Log, len(logs))
	for i, log := range logs {
		kept[i] = sealed(log)
	}
	if err := d.judge(appending, d.moments.around("append "+nameOf(logs), func() error { return d.BoltStore.StoreLogs(kept) })); err != nil {
		return err
	}
	d.written()
	d.identity.reached(logs[len(logs)-1].Index)
	return nil
}

// nameOf says what is the last of logs: the one that makes those before it matter.
func nameOf(logs []*raft.Log) string {
	if last := logs[len(logs)-1]; last.Type == raft.LogCommand {
		return state.EntryName(last.Data)
	}
	return "an entry of raft's own"
}

// GetLog implements raft.LogStore.
func (d *disk) GetLog(index uint64, log *raft.Log) error {
	err := d.BoltStore.GetLog(index, log)
	if errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	if err == nil {
		err = damaged(unseal(index, log))
	}
	return d.judge(fmt.Sprintf("read log entry %d", index), err)
}

// DeleteRange implements raft.LogStore.
func (d *disk) DeleteRange(first, last uint64) error {
	if err := d.failure.err(); err != nil {
		return err
	}
	if err := d.identity.truncate(first, last); err != nil {
		return d.judge(trimming, err)
	}
	return d.judge(trimming, d.moments.around(trimming, func() error { return d.BoltStore.DeleteRange(first, last) }))
}

// Set implements raft.StableStore.
func (d *disk) Set(key, value []byte) error {
	d.persist("save the vote", func() error { return d.BoltStore.Set(key, value) })
	return nil
}

// SetUint64 implements raft.StableStore.
func (d *disk) SetUint64(key []byte, value uint64) error {
	d.persist("save the term", func() error { return d.BoltStore.SetUint64(key, value) })
	if string(key) == termKey {
		d.identity.term(value)
	}
	return nil
}

// termKey is where raft keeps the current term.
const termKey = "CurrentTerm"

// persist writes what raft cannot go on without: it panics if it is told of an error. So this waits until a full disk
// has space, and ends the calling goroutine, one of raft's own, if it cannot be written at all.
func (d *disk) persist(doing string, write func() error) {
	for {
		if d.failure.err() != nil || !d.awaitSpace() {
			runtime.Goexit()
		}
		if d.judge(doing, d.moments.around(doing, write)) == nil {
			d.written()
			return
		}
	}
}

// awaitSpace blocks while the disk is full. It is false once the server closes.
func (d *disk) awaitSpace() bool {
	for d.full.Load() && !d.hasSpace() {
		select {
		case <-time.After(spaceProbe):
		case <-d.closing.Done():
			return false
		}
	}
	d.written()
	return d.closing.Err() == nil
}

// hasSpace tries to claim spaceNeeded and gives it back: quotas and reserved blocks make the free space that statfs
// reports a poor guess.
func (d *disk) hasSpace() bool {
	path := filepath.Join(d.dir, "space.tmp")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return false
	}
	defer os.Remove(path)
	defer f.Close()
	err = syscall.Fallocate(int(f.Fd()), 0, 0, spaceNeeded)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, spaceNeeded))
	}
	return err == nil
}

// remedy ends the message of a server that cannot start from what its directory holds.
func remedy(dir string) string {
	return fmt.Sprintf("move it away (%s): a single server then rebuilds everything from the repository, one of several is added again; "+
		"or restore a snapshot into an empty data directory (mainstay snapshot restore); an old copy of it will not do", dir)
}

func (d *disk) close() error {
	d.stop()
	if d.BoltStore == nil {
		return nil
	}
	d.identity.save()
	return d.BoltStore.Close()
}
