package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"strconv"

	"github.com/mainstay-cluster/mainstay/object"
)

// A snapshot file is
//
//	magic · format · version · index · staged id · staged parts · number of kinds
//	then by kind: group/version/kind · number of objects · one frame per object: resourceVersion · length · payload
//	then CRC32C of all before, 4 bytes little endian
//
// with numbers as unsigned varints and strings and parts preceded by their length.
const (
	snapshotMagic  = "mainstay-snapshot\n"
	snapshotFormat = 1
	// maxFrame bounds what a corrupt length can make us allocate: twice a spec and a status of the largest size.
	maxFrame = 4 * maxObject
)

// Persist streams the snapshot. It is safe while Apply runs and holds no second copy in memory.
func (s *Snapshot) Persist(w io.Writer) error {
	e := &encoder{w: bufio.NewWriterSize(w, 1<<16), sum: crc32.New(castagnoli)}
	e.raw([]byte(snapshotMagic))
	e.uvarint(snapshotFormat, uint64(s.Version), s.Index, s.staged.id, uint64(len(s.staged.parts)))
	for _, part := range s.staged.parts {
		e.bytes(part)
	}
	tables := slices.DeleteFunc(slices.Clone(s.tables), (*table).unheardOf)
	e.uvarint(uint64(len(tables)))
	for _, t := range tables {
		e.table(t)
	}
	return e.finish()
}

// unheardOf is true of a table of which older servers need not hear: what they do not know they refuse.
func (t *table) unheardOf() bool { return t.spec.kind.Since > 0 && t.rows.Len() == 0 }

type encoder struct {
	w   *bufio.Writer
	sum hash.Hash32
	err error
}

func (e *encoder) table(t *table) {
	e.bytes([]byte(kindName(t.spec.kind.GroupVersionKind)))
	e.uvarint(uint64(t.rows.Len()))
	t.rows.Ascend(func(r row) bool {
		payload, err := marshal(r.obj)
		if err != nil {
			e.err = fmt.Errorf("encode %s %s: %w", t.spec.kind.Kind, r.key, err)
			return false
		}
		e.uvarint(uint64(r.version))
		e.bytes(payload)
		return e.err == nil
	})
}

func (e *encoder) uvarint(numbers ...uint64) {
	for _, n := range numbers {
		e.raw(binary.AppendUvarint(nil, n))
	}
}

func (e *encoder) bytes(b []byte) {
	e.uvarint(uint64(len(b)))
	e.raw(b)
}

func (e *encoder) raw(b []byte) {
	if e.err != nil {
		return
	}
	e.sum.Write(b)
	_, e.err = e.w.Write(b)
}

func (e *encoder) finish() error {
	if e.err != nil {
		return fmt.Errorf("write snapshot: %w", e.err)
	}
	if err := binary.Write(e.w, binary.LittleEndian, e.sum.Sum32()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return e.w.Flush()
}

// Restore replaces the whole state by a persisted snapshot, or leaves it as it is and says why not. Every feed then says
// ErrCompacted. It is not called while Apply runs.
func (s *Store) Restore(r io.Reader) error {
	d := &streamDecoder{r: bufio.NewReaderSize(r, 1<<16), sum: crc32.New(castagnoli)}
	snap, err := d.snapshot(s.schema)
	if err == nil {
		err = snap.readable()
	}
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	s.snap.Store(snap)
	for _, ring := range s.rings {
		ring.reset(snap.Version)
	}
	s.wakeWaiters()
	return nil
}

// streamDecoder reads what encoder wrote. After the first error every read returns zero and err stays set.
type streamDecoder struct {
	r   *bufio.Reader
	sum hash.Hash32
	err error
}

func (d *streamDecoder) snapshot(schema *Schema) (*Snapshot, error) {
	if magic := d.raw(len(snapshotMagic)); d.err == nil && string(magic) != snapshotMagic {
		return nil, errors.New("not a Mainstay snapshot")
	}
	if format := d.uvarint(); d.err == nil && format != snapshotFormat {
		return nil, fmt.Errorf("format %d %w", format, ErrNewer)
	}
	snap := &Snapshot{schema: schema, Version: Version(d.uvarint()), Index: d.uvarint()}
	snap.staged.id = d.uvarint()
	for range d.uvarint() {
		if snap.staged.parts = append(snap.staged.parts, d.bytes()); d.err != nil {
			return nil, d.err
		}
	}
	for _, spec := range schema.specs {
		snap.tables = append(snap.tables, newTable(spec))
	}
	for range d.uvarint() {
		if d.table(snap); d.err != nil {
			return nil, d.err
		}
	}
	return snap, d.finish()
}

func (d *streamDecoder) table(snap *Snapshot) {
	name := string(d.bytes())
	if d.err != nil {
		return
	}
	i, err := snap.schema.tableNamed(name)
	if err != nil {
		d.err = err
		return
	}
	t := snap.tables[i]
	var previous object.Object
	for range d.uvarint() {
		version, payload := Version(d.uvarint()), d.bytes()
		if d.err != nil {
			return
		}
		obj := t.spec.kind.New()
		if d.err = unmarshal(payload, obj); d.err != nil {
			d.err = fmt.Errorf("decode %s: %w", name, d.err)
			return
		}
		if previous != nil {
			share(obj, previous)
		}
		obj.GetObjectKind().SetGroupVersionKind(t.spec.kind.GroupVersionKind)
		obj.SetResourceVersion(strconv.FormatUint(uint64(version), 10))
		t.put(row{KeyOf(obj), version, obj})
		previous = obj
	}
}

// ReadByte makes streamDecoder an io.ByteReader for binary.ReadUvarint.
func (d *streamDecoder) ReadByte() (byte, error) {
	b, err := d.r.ReadByte()
	if err == nil {
		d.sum.Write([]byte{b})
	}
	return b, err
}

func (d *streamDecoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	var n uint64
	n, d.err = binary.ReadUvarint(d)
	return n
}

func (d *streamDecoder) bytes() []byte {
	n := d.uvarint()
	if d.err == nil && n > maxFrame {
		d.err = fmt.Errorf("%w: frame of %d bytes", errCorrupt, n)
	}
	return d.raw(int(n))
}

func (d *streamDecoder) raw(n int) []byte {
	if d.err != nil {
		return nil
	}
	b := make([]byte, n)
	if _, d.err = io.ReadFull(d.r, b); d.err != nil {
		return nil
	}
	d.sum.Write(b)
	return b
}

func (d *streamDecoder) finish() error {
	if d.err != nil {
		return d.err
	}
	var want uint32
	if err := binary.Read(d.r, binary.LittleEndian, &want); err != nil {
		return fmt.Errorf("%w: checksum is missing: %w", errCorrupt, err)
	}
	if d.sum.Sum32() != want {
		return fmt.Errorf("%w: checksum differs", errCorrupt)
	}
	return nil
}
