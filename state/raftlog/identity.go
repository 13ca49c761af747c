package raftlog

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/mainstay-cluster/mainstay/durable"
)

// identityStride is how many entries may pass between two notes of how far the log has come. The term is noted at once.
const identityStride = 4096

// identity is a small file beside the log that remembers whose it is, who else takes part and how far it had come, so that a
// log that was emptied, replaced or restored from an old copy is noticed, and a server that lost its log knows whom to ask for
// it. What it says of progress may lag behind the log, never run ahead of it. It carries a checksum, and has a copy.
type identity struct {
	path string

	mu      sync.Mutex
	seen    known  // guarded by mu
	saved   known  // what the file says; guarded by mu
	content []byte // of the file; guarded by mu
}

// known is what the file says.
type known struct {
	Server string `json:"server"`
	// Member is what raft calls this server: its name and a mark that no other log has. A server that lost its log comes back
	// as another member, so that nobody counts on what the lost one had acknowledged and voted.
	Member string `json:"member,omitempty"` // "" in a directory from before there were marks: the name alone
	Term   uint64 `json:"term"`
	Index  uint64 `json:"index"`
	Voter  bool   `json:"voter,omitempty"`
	Peers  []peer `json:"peers,omitempty"` // the other members, as far as is known
	Lost   bool   `json:"lost,omitempty"`  // it lost its log, and is not yet a member again
}

// peer is another member.
type peer struct {
	Server  string `json:"server"`
	Address string `json:"address"`
	Voter   bool   `json:"voter,omitempty"`
}

// loadIdentity reads what is known of the directory at path's.
func loadIdentity(path string, cfg Config) (*identity, error) {
	id := &identity{path: path, seen: known{Server: cfg.ID, Member: markedMember(cfg.ID)}}
	raw, err := readSummed(path)
	if err != nil {
		if raw, err = readSummed(path + ".copy"); errors.Is(err, fs.ErrNotExist) {
			raw, err = readSummed(path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "raft.db")); err == nil {
			id.seen.Member = cfg.ID
		}
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
	id.seen.Member = cmp.Or(id.saved.Member, cfg.ID)
	return id, nil
}

// markedMember makes a member of a server.
func markedMember(server string) string {
	mark := make([]byte, 4)
	_, _ = rand.Read(mark) // never fails
	return server + memberMark + hex.EncodeToString(mark)
}

// memberMark ends the name of a server in that of a member.
const memberMark = "#"

// serverOf is the name of a member's server.
func serverOf[T ~string](member T) string {
	server, _, _ := strings.Cut(string(member), memberMark)
	return server
}

// now returns what is known at this moment.
func (id *identity) now() known {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.seen
}

// members notes who takes part.
func (id *identity) members(voter bool, peers []peer) {
	id.mu.Lock()
	id.seen.Voter, id.seen.Peers = voter, peers
	id.mu.Unlock()
	id.save()
}

// found notes that this server is a member again.
func (id *identity) found() {
	id.mu.Lock()
	id.seen.Lost = false
	id.mu.Unlock()
	id.save()
}

// compare refuses a log that is behind what this server has seen; else it notes how far the log is.
func (id *identity) compare(term, index uint64) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if term < id.saved.Term || index < id.saved.Index {
		return &damage{fmt.Errorf("the log ends at term %d, index %d, but this server has seen term %d, index %d: raft.db was emptied, replaced or restored from an old copy",
			term, index, id.saved.Term, id.saved.Index)}
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
	raw, err := json.Marshal(id.seen)
	if err != nil || bytes.Equal(raw, id.content) {
		return err
	}
	if err := durable.ReplaceFile(id.path, summed(raw)); err != nil {
		return fmt.Errorf("note the log's progress: %w", err)
	}
	onlyProgress := id.saved
	onlyProgress.Term, onlyProgress.Index = id.seen.Term, id.seen.Index
	if !reflect.DeepEqual(onlyProgress, id.seen) {
		err = durable.ReplaceFile(id.path+".copy", summed(raw))
	}
	id.saved, id.content = id.seen, raw
	return err
}

// summed is content as it is kept in a file: on one line, with a checksum on the next.
func summed(content []byte) []byte {
	return fmt.Appendf(nil, "%s\ncrc32c %08x\n", content, crc32.Checksum(content, castagnoli))
}

// castagnoli is the polynomial for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readSummed reads what summed made, or a file from before there was a checksum.
func readSummed(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	content, rest, _ := bytes.Cut(raw, []byte("\n"))
	if len(rest) > 0 && !bytes.Equal(raw, summed(content)) {
		return nil, errors.New("its checksum differs")
	}
	return content, nil
}
