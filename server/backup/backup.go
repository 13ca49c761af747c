// Package backup is the file that `mainstay snapshot` saves: the store, and the authority that the cluster's nodes trust. It
// owns the format, and hands out nothing of a file that is not whole. It talks to no server and decides nothing about what
// becomes of a cluster that is restored. Start at Write and Read.
package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// A file is
//
//	magic · format · header · authority's certificate · its key · the store's snapshot
//	then the length of all before, 8 bytes little endian, then SHA-256 of all before
//
// with the format as an unsigned varint, the header as JSON, and header, certificate and key preceded by their length. A
// newer format changes what stands between the number of the format and the length.
const (
	magic  = "mainstay-backup\n"
	format = 1
	// trailer is the size of the length and the digest.
	trailer = 8 + sha256.Size
	// maxPart bounds what a strange length can make us allocate: a header or a key has a few hundred bytes.
	maxPart = 1 << 20
)

// Header says of which cluster a backup is, and of when.
type Header struct {
	Mainstay string        `json:"mainstay"` // the version that wrote it
	Created  time.Time     `json:"created"`
	Cluster  string        `json:"cluster"`
	Store    string        `json:"store"`   // the id of the store that counted the versions
	Version  state.Version `json:"version"` // of the newest change in it
	Index    uint64        `json:"index"`   // of the newest entry of the log in it
	Repo     string        `json:"repo"`    // without credentials
	Branch   string        `json:"branch"`
	Path     string        `json:"path,omitempty"`
	Revision string        `json:"revision,omitempty"` // in force; "" if none is yet
	Commit   string        `json:"commit,omitempty"`   // of that revision, the full hash
}

// Authority is the cluster's own certificate authority, as PEM.
type Authority struct{ Cert, Key []byte }

// Describe is the header of a backup of snap. The error says that there is no cluster to back up yet.
func Describe(snap *state.Snapshot, mainstay string, now time.Time) (Header, error) {
	cluster := plan.LiveCluster(snap)
	if cluster == nil {
		return Header{}, errors.New("the cluster is not known yet: save a snapshot once the repository has been read")
	}
	h := Header{
		Mainstay: mainstay, Created: now.UTC().Truncate(time.Second), Cluster: cluster.Name, Store: cluster.Status.Store,
		Version: snap.Version, Index: snap.Index, Repo: cluster.Status.Repo, Branch: cluster.Status.Branch, Path: cluster.Status.Path,
		Revision: cluster.Status.Revision,
	}
	if rev, ok := state.Get[*object.Revision](snap, state.Key{Name: h.Revision}); ok {
		h.Commit = rev.Spec.Commit
	}
	return h, nil
}

// Write streams a backup. It holds secrets: who has it is the cluster.
func Write(w io.Writer, h Header, a Authority, snap *state.Snapshot) error {
	head, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode the header: %w", err)
	}
	buffered := bufio.NewWriterSize(w, 64<<10)
	digest := sha256.New()
	all := &counter{w: io.MultiWriter(buffered, digest)}
	front := binary.AppendUvarint([]byte(magic), format)
	for _, part := range [][]byte{head, a.Cert, a.Key} {
		front = append(binary.AppendUvarint(front, uint64(len(part))), part...)
	}
	if _, err := all.Write(front); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if err := snap.Persist(all); err != nil {
		return err
	}
	if err := binary.Write(all, binary.LittleEndian, uint64(all.n)); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	if _, err := buffered.Write(digest.Sum(nil)); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return buffered.Flush()
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
