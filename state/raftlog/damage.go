package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/mainstay-cluster/mainstay/durable"
)

// damage is an error that says that what the directory holds is not what was written there: this server cannot go on from it.
type damage struct{ err error }

// Error implements error.
func (d *damage) Error() string { return d.err.Error() }

// Unwrap is for errors.Is.
func (d *damage) Unwrap() error { return d.err }

// damaged calls err damage. What the operating system refused says nothing of what was written, nor does a database that
// another process has open.
func damaged(err error) error {
	var refused syscall.Errno
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("it is in use by another process: stop that first: %w", err)
	}
	return &damage{err}
}

const (
	// asideDir is where, in the log's directory, damaged logs are kept.
	asideDir = "damaged"
	// asideKept is how many of them are kept: each is as large as the log. A disk that damages more is not worth a look at each.
	asideKept = 3
)

// setAside moves a damaged log out of the way, whole, so that this server begins anew with an empty one and gets everything
// from the others. The error says why it may not: alone it would forget what was acknowledged.
func setAside(cfg Config, why error) error {
	path := filepath.Join(cfg.Dir, "identity")
	id, err := loadIdentity(path, cfg)
	if err != nil {
		return err
	}
	was := id.now()
	if err := mayComeBack(cfg, was); err != nil {
		return err
	}
	aside := filepath.Join(cfg.Dir, asideDir, time.Now().UTC().Format("2006-01-02T15-04-05.000"))
	if err := moveLog(cfg.Dir, aside, was); err != nil {
		return fmt.Errorf("set the damaged log aside: %w", err)
	}
	cfg.Log.Error("the log of this server is damaged: it was set aside, and the other servers are asked for everything",
		"err", why, "aside", aside, "inspect", "bbolt check "+filepath.Join(aside, "raft.db"), "kept", asideKept)
	forgetOlder(cfg)
	id.mu.Lock()
	id.seen.Member, id.seen.Index, id.seen.Lost = markedMember(cfg.ID), 0, true
	id.mu.Unlock()
	return id.store()
}

// forgetOlder removes all but the newest of the logs that were set aside. One that cannot be removed is no reason not to start.
func forgetOlder(cfg Config) {
	kept, err := os.ReadDir(filepath.Join(cfg.Dir, asideDir)) // by name, and so by time
	for _, old := range kept[:max(0, len(kept)-asideKept)] {
		path := filepath.Join(cfg.Dir, asideDir, old.Name())
		if err = errors.Join(err, os.RemoveAll(path)); err == nil {
			cfg.Log.Info("a log that was set aside longer ago is removed", "aside", path)
		}
	}
	if err != nil {
		cfg.Log.Warn("remove logs that were set aside longer ago", "err", err)
	}
}

// mayComeBack refuses where the others could not write without this server, or there is nobody else.
func mayComeBack(cfg Config, was known) error {
	voters := 0
	for _, p := range was.Peers {
		if p.Voter {
			voters++
		}
	}
	switch {
	case cfg.Streams == nil || voters == 0:
		return errors.New("no other server has what it held")
	case was.Voter && voters == 1:
		return errors.New("the one other server is no majority, and may not have all that it held")
	}
	return nil
}

// moveLog moves the files of a log to aside. The identity is copied: until it says otherwise, this server is known to have a
// log, and an empty one is damage too.
func moveLog(dir, aside string, was known) error {
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return err
	}
	raw, err := json.Marshal(was)
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(filepath.Join(aside, "identity"), summed(raw)); err != nil {
		return err
	}
	for _, name := range []string{"raft.db", "snapshots"} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
