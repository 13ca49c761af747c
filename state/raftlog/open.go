package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/mainstay-cluster/mainstay/durable"
)

// openDisk opens what is in the directory, after looking for the damage that raft and bbolt
// would not notice.
func openDisk(cfg Config, failure *failure) (*disk, error) {
	if err := makePrivate(cfg.Dir); err != nil {
		return nil, err
	}
	d := &disk{dir: cfg.Dir, log: cfg.Log, failure: failure, moments: cfg.moments}
	d.closing, d.stop = context.WithCancel(context.Background())
	if err := d.open(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log in %s: %w", cfg.Dir, err), d.close())
	}
	return d, nil
}

func (d *disk) open(cfg Config) error {
	var err error
	path := filepath.Join(d.dir, "raft.db")
	if d.identity, err = loadIdentity(filepath.Join(d.dir, "identity"), cfg); err != nil {
		return err
	}
	if err := checkFile(path); err != nil {
		return damaged(err)
	}
	if d.snapshots, err = openSnapshots(cfg); err != nil {
		return err
	}
	if err := guarded(func() error { d.BoltStore, err = raftboltdb.New(boltOptions(path)); return err }); err != nil {
		return damaged(fmt.Errorf("raft.db: %w", err))
	}
	if err := d.rememberTerm(); err != nil {
		return fmt.Errorf("raft.db: %w", err)
	}
	if err := guarded(d.checkProgress); err != nil {
		return damaged(err)
	}
	return d.identity.begin()
}

func boltOptions(path string) raftboltdb.Options {
	return raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout: time.Second,
		// Writing the freelist with every commit grows with the file; finding it again at start costs a scan of the file instead.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	}}
}

// rememberTerm makes an empty log that takes the place of a lost one begin in its term, in which nobody gets a vote any more.
func (d *disk) rememberTerm() error {
	was := d.identity.now()
	if _, err := d.GetUint64([]byte(termKey)); !was.Lost || err == nil {
		return nil
	}
	return errors.Join(
		d.BoltStore.Set([]byte("LastVoteCand"), []byte("nobody")), d.BoltStore.SetUint64([]byte("LastVoteTerm"), was.Term),
		d.BoltStore.SetUint64([]byte(termKey), was.Term))
}

// checkProgress compares the log with what this server is known to have seen: bbolt makes an emptied file a fresh store,
// and a server that forgot its votes and entries may not vote again.
func (d *disk) checkProgress() error {
	term, err := d.GetUint64([]byte(termKey))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	index, err := d.LastIndex()
	if err != nil {
		return err
	}
	known, err := d.snapshots.List()
	if err != nil {
		return err
	}
	if len(known) > 0 {
		if err := d.checkTrailing(known[0].Index); err != nil {
			return err
		}
		index = max(index, known[0].Index)
	}
	return d.identity.compare(term, index)
}

// checkTrailing reads the entries that only others may yet want; raft itself reads those after the newest snapshot.
func (d *disk) checkTrailing(snapshot uint64) error {
	first, err := d.FirstIndex()
	if err != nil {
		return err
	}
	last, err := d.LastIndex()
	if err != nil {
		return err
	}
	for index := min(snapshot, last); index >= max(first, 1); index-- {
		var log raft.Log
		err := d.BoltStore.GetLog(index, &log)
		if errors.Is(err, raft.ErrLogNotFound) {
			return nil // A restored snapshot begins beyond what was there; nobody asks for what is below a hole.
		}
		if err == nil {
			err = unseal(index, &log)
		}
		if err != nil {
			return fmt.Errorf("read log entry %d: %w", index, err)
		}
	}
	return nil
}

// makePrivate makes dir, or checks that it is ours: it holds Secrets.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("data directory %s belongs to user %d, this server runs as %d: run it as that user or chown the directory", dir, stat.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory private: %w", err)
	}
	return nil
}

// checkFile walks a database file before bbolt opens it for writing: bbolt looks for free pages on a goroutine of its own,
// where nobody can catch its panic over a damaged one, and faults on the missing end of a file that was cut.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Size() == 0:
		return nil // bbolt makes it a fresh store, which checkProgress finds out.
	}
	return guarded(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return fmt.Errorf("open raft.db: %w", err)
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			if tx.Size() > info.Size() {
				return fmt.Errorf("raft.db is damaged: it has %d bytes of %d", info.Size(), tx.Size())
			}
			return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
				return bucket.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	})
}

// guarded turns a panic or a memory fault in a damaged file into an error.
func guarded(open func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raft.db is damaged: %v", p)
		}
	}()
	return open()
}

// snapshots is raft's own store of snapshots, which reads each one back before the log it covers is trimmed.
type snapshots struct {
	*raft.FileSnapshotStore
	dir     string
	moments moments
}

// retained is how many snapshots are kept: the newest, and one more in case it turns out to be unreadable.
const retained = 2

func openSnapshots(cfg Config) (*snapshots, error) {
	s := &snapshots{dir: filepath.Join(cfg.Dir, "snapshots"), moments: cfg.moments}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, retained, raftLogger(cfg.Log))
	s.FileSnapshotStore = store
	return s, err
}

// sweep removes the snapshots that a crash left unfinished; raft only warns of them.
func (s *snapshots) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			return fmt.Errorf("remove unfinished snapshot: %w", err)
		}
	}
	return nil
}

// List implements raft.SnapshotStore. A snapshot whose description is not as it was written is none.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	known, err := s.FileSnapshotStore.List()
	return slices.DeleteFunc(known, func(m *raft.SnapshotMeta) bool {
		description, err := os.ReadFile(filepath.Join(s.dir, m.ID, "meta.json"))
		sum, absent := os.ReadFile(filepath.Join(s.dir, m.ID, "meta.sum")) // older snapshots have none
		return err != nil || absent == nil && !bytes.Equal(sum, sumFile(description))
	}), err
}

func sumFile(content []byte) []byte {
	return fmt.Appendf(nil, "crc32c %08x\n", crc32.Checksum(content, castagnoli))
}

// Create implements raft.SnapshotStore.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, c, configIndex, t)
	if err != nil {
		return nil, err
	}
	return &verifiedSink{sink, s}, nil
}

type verifiedSink struct {
	raft.SnapshotSink
	store *snapshots
}

// Close finishes the snapshot, makes it private and reads it back. One that cannot be read is removed: the log stays.
func (v *verifiedSink) Close() error {
	dir := filepath.Join(v.store.dir, v.ID())
	if err := v.store.moments.around("finish a snapshot", v.SnapshotSink.Close); err != nil {
		return errors.Join(err, os.RemoveAll(dir)) // It may be in its place already, and raft does not count on it.
	}
	description, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err == nil {
		err = v.store.moments.around("seal a snapshot", func() error { return durable.ReplaceFile(filepath.Join(dir, "meta.sum"), sumFile(description)) })
	}
	err = errors.Join(err, os.Chmod(dir, 0o700), os.Chmod(filepath.Join(dir, "state.bin"), 0o600), os.Chmod(filepath.Join(dir, "meta.json"), 0o600))
	if err == nil {
		err = v.readBack()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("read back: %w", err), os.RemoveAll(dir))
	}
	return nil
}

func (v *verifiedSink) readBack() error {
	_, file, err := v.store.Open(v.ID())
	if err != nil {
		return err
	}
	return file.Close()
}
