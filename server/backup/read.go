package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// What may be wrong with a file.
var (
	ErrForeign = errors.New("this is not a backup of Mainstay")
	ErrNewer   = errors.New("this backup was written by a newer Mainstay than this one: use that version, or a later one")
	ErrCut     = errors.New("this backup is cut short, or something was added to its end: use another copy")
	ErrDamaged = errors.New("this backup is damaged: use another copy")
)

// Backup is a file that was read and found whole.
type Backup struct {
	Header    Header
	Authority Authority
	Snapshot  *state.Snapshot
	Size      int64 // of the file, in bytes
}

// Read reads a backup of size bytes, and checks every byte of it first. Errors are, or wrap, one of those above, unless the
// file itself cannot be read.
func Read(r io.ReaderAt, size int64) (*Backup, error) {
	body, err := checked(r, size)
	if err != nil {
		return nil, err
	}
	b := &Backup{Size: size}
	var head []byte
	for _, part := range []*[]byte{&head, &b.Authority.Cert, &b.Authority.Key} {
		if *part, err = readPart(body); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(head, &b.Header); err != nil {
		return nil, fmt.Errorf("%w: its header: %w", ErrDamaged, err)
	}
	store := state.New(tables.Schema(), time.Now)
	if err := store.Restore(body); err != nil {
		return nil, fmt.Errorf("read the store: %w", err)
	}
	b.Snapshot = store.View()
	return b, nil
}

// checked returns what follows the number of the format, once everything has the digest that stands at the end.
func checked(r io.ReaderAt, size int64) (*bufio.Reader, error) {
	start := make([]byte, min(size, int64(len(magic))))
	if _, err := r.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if string(start) != magic[:len(start)] || size == 0 {
		return nil, ErrForeign
	}
	if size < int64(len(magic))+trailer {
		return nil, ErrCut
	}
	whole := size - sha256.Size // what the digest is of
	end := make([]byte, trailer)
	if _, err := r.ReadAt(end, size-trailer); err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if binary.LittleEndian.Uint64(end) != uint64(size-trailer) {
		return nil, ErrCut
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(r, 0, whole)); err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if !bytes.Equal(digest.Sum(nil), end[8:]) {
		return nil, ErrDamaged
	}
	body := bufio.NewReader(io.NewSectionReader(r, int64(len(magic)), size-trailer-int64(len(magic))))
	if n, err := binary.ReadUvarint(body); err != nil || n == 0 {
		return nil, ErrDamaged
	} else if n > format {
		return nil, fmt.Errorf("%w (its format is %d, this version knows %d)", ErrNewer, n, format)
	}
	return body, nil
}

func readPart(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > maxPart {
		return nil, ErrDamaged
	}
	part := make([]byte, n)
	if _, err := io.ReadFull(r, part); err != nil {
		return nil, ErrDamaged
	}
	return part, nil
}

// Counts is how many objects of each kind a backup holds; kinds of which there are none are left out.
func (b *Backup) Counts() map[string]int {
	counts := map[string]int{}
	for _, kind := range object.Stored() {
		if n := state.LenKind(b.Snapshot, kind); n > 0 {
			counts[kind.Kind] = n
		}
	}
	return counts
}
