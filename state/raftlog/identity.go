package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// identityStride is how many entries may pass between two notes of how far the log has come. The term is noted at once.
const identityStride = 4096

// identity is a small file beside the log that remembers whose it is and how far it had come, so that a log that was
// emptied, replaced or restored from an old copy is noticed. It may lag behind the log, never run ahead of it.
type identity struct {
	path string

	mu    sync.Mutex
	seen  progress // guarded by mu
	saved progress // what the file says; guarded by mu
}

type progress struct {
	Server string `json:"server"`
	Term   uint64 `json:"term"`
	Index  uint64 `json:"index"`
}

func loadIdentity(path string, cfg Config) (*identity, error) {
	id := &identity{path: path, seen: progress{Server: cfg.ID}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &id.saved)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: restore it from a backup", path, err)
	}
	if id.saved.Server != cfg.ID {
		return nil, fmt.Errorf("%s says that this directory belongs to server %q, not %q: give this server its own directory", path, id.saved.Server, cfg.ID)
	}
	id.seen = id.saved
	return id, nil
}

// compare refuses a log that is behind what this server has seen; else it notes how far the log is.
func (id *identity) compare(term, index uint64) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if term < id.saved.Term || index < id.saved.Index {
		return fmt.Errorf("the log ends at term %d, index %d, but this server has seen term %d, index %d: raft.db was emptied, replaced or restored from an old copy",
			term, index, id.saved.Term, id.saved.Index)
	}
	id.seen.Term, id.seen.Index = term, index
	return nil
}

// begin makes the file where there is none. Later notes may fail, as on a full disk: they only make the file lag.
func (id *identity) begin() error {
	id.mu.Lock()
	exists := id.saved.Server != ""
	id.mu.Unlock()
	err := id.store()
	if exists {
		return nil
	}
	return err
}

// term notes a term that the log has recorded.
func (id *identity) term(t uint64) {
	id.mu.Lock()
	id.seen.Term = t
	id.mu.Unlock()
	id.save()
}

// reached notes an entry that the log has recorded.
func (id *identity) reached(index uint64) {
	id.mu.Lock()
	id.seen.Index = index
	due := index >= id.saved.Index+identityStride
	id.mu.Unlock()
	if due {
		id.save()
	}
}

// truncate notes that the log is about to lose its end, as a follower's does when a leader knows better. Losing its
// beginning, which a snapshot holds, takes nothing back.
func (id *identity) truncate(first, last uint64) error {
	id.mu.Lock()
	shorter := last >= id.seen.Index && first <= id.seen.Index
	if shorter {
		id.seen.Index = first - 1
	}
	id.mu.Unlock()
	if !shorter {
		return nil
	}
	return id.store()
}

// save is store where nobody can do anything about an error.
func (id *identity) save() { _ = id.store() }

func (id *identity) store() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.seen == id.saved {
		return nil
	}
	raw, err := json.Marshal(id.seen)
	if err != nil {
		return err
	}
	if err := replaceFile(id.path, append(raw, '\n')); err != nil {
		return fmt.Errorf("note the log's progress: %w", err)
	}
	id.saved = id.seen
	return nil
}

// replaceFile makes path hold content, durably, or leaves it as it was.
func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".tmp"))
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
