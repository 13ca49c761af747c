package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
)

// staging holds the parts of the one transaction that is larger than an entry. Its slices are shared with snapshots, so
// it is replaced, never changed.
type staging struct {
	id    uint64
	parts [][]byte
}

// Apply applies one log entry and returns one error per transaction in it, nil where it passed. It is the only writer of
// state, is deterministic, and does no I/O. It is called by one goroutine at a time, in log order. An entry that this
// program cannot read stops it: skipping one would make servers differ.
func (s *Store) Apply(index uint64, entry []byte) []error {
	kind, body, err := openEntry(entry)
	if err != nil {
		panic(fmt.Sprintf("state: log index %d: %v", index, err))
	}
	w := s.writer(index)
	var errs []error
	switch kind {
	case typeBatch:
		errs, err = w.batch(body)
	case typePart:
		err = w.part(body)
	case typeFlip:
		errs, err = w.flip(body)
	case typeTerm:
		w.next.staged = staging{}
	default:
		err = fmt.Errorf("entry type %d %w", kind, ErrNewer)
	}
	if err == nil {
		err = w.next.readable()
	}
	if err != nil {
		panic(fmt.Sprintf("state: log index %d: %v", index, err))
	}
	s.publish(w)
	return errs
}

// writer builds the next snapshot from the newest one.
type writer struct {
	schema  *Schema
	next    *Snapshot
	dirty   []bool
	changes [][]change // by table, in order
}

func (s *Store) writer(index uint64) *writer {
	next := *s.View()
	next.Index = index
	next.tables = slices.Clone(next.tables)
	return &writer{schema: s.schema, next: &next, dirty: make([]bool, len(next.tables)), changes: make([][]change, len(next.tables))}
}

// own makes table i writable.
func (w *writer) own(i int) *table {
	if !w.dirty[i] {
		w.next.tables[i], w.dirty[i] = w.next.tables[i].fork(), true
	}
	return w.next.tables[i]
}

func (w *writer) batch(body []byte) ([]error, error) {
	d := decoder{rest: body}
	errs := make([]error, d.count())
	for i := range errs {
		txn := d.bytes()
		if d.bad {
			break
		}
		conflict, err := w.txn(txn)
		if err != nil {
			return nil, err
		}
		errs[i] = conflict
	}
	if d.bad || len(d.rest) != 0 {
		return nil, fmt.Errorf("%w: batch ends early or late", errCorrupt)
	}
	return errs, nil
}

// part stages one piece: id · number · bytes.
func (w *writer) part(body []byte) error {
	d := decoder{rest: body}
	id, number, piece := d.uvarint(), d.uvarint(), d.bytes()
	if d.bad {
		return fmt.Errorf("%w: part", errCorrupt)
	}
	if number == 0 {
		w.next.staged = staging{id: id}
	}
	staged := w.next.staged
	if staged.id != id || uint64(len(staged.parts)) != number {
		return nil // A part of a transaction that a newer one has replaced; its flip will fail.
	}
	w.next.staged = staging{id: id, parts: append(slices.Clone(staged.parts), bytes.Clone(piece))}
	return nil
}

// flip makes the staged parts take effect, all or none: id · count · SHA-256 of the parts together.
func (w *writer) flip(body []byte) ([]error, error) {
	d := decoder{rest: body}
	id, count, sum := d.uvarint(), d.uvarint(), d.bytes()
	if d.bad {
		return nil, fmt.Errorf("%w: flip", errCorrupt)
	}
	staged := w.next.staged
	w.next.staged = staging{}
	if staged.id != id || uint64(len(staged.parts)) != count {
		return []error{fmt.Errorf("%w: staged parts were replaced by a newer transaction's", ErrConflict)}, nil
	}
	whole := bytes.Join(staged.parts, nil)
	if got := sha256.Sum256(whole); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: staged parts differ from what was sent", errCorrupt)
	}
	conflict, err := w.txn(whole)
	return []error{conflict}, err
}

// txn applies one transaction whole, or returns as conflict why not. err is for what no Mainstay of this version writes.
func (w *writer) txn(encoded []byte) (conflict, err error) {
	ops, err := decodeTxn(encoded)
	if err != nil {
		return nil, err
	}
	tables := make([]int, len(ops))
	for i, o := range ops {
		if tables[i], err = w.schema.tableNamed(o.kind); err != nil {
			return nil, err
		}
	}
	if conflict := w.check(ops, tables); conflict != nil {
		return conflict, nil
	}
	for i, o := range ops {
		if err := w.apply(o, tables[i]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// presence is what check knows of one object while it walks a transaction.
type presence struct {
	exists  bool
	version Version
	uid     string
}

// check finds the first precondition that does not hold. Operations see the earlier ones of their own transaction.
func (w *writer) check(ops []op, tables []int) error {
	type place struct {
		table int
		key   Key
	}
	seen := make(map[place]presence, len(ops))
	for i, o := range ops {
		at := place{tables[i], o.key}
		p, ok := seen[at]
		if !ok {
			if r, found := w.next.tables[tables[i]].get(o.key); found {
				p = presence{true, r.version, string(r.obj.GetUID())}
			}
		}
		if reason := p.violates(o); reason != "" {
			return &ConflictError{Kind: w.schema.specs[tables[i]].kind.Kind, Key: o.key, Reason: reason}
		}
		switch o.verb {
		case verbCreate:
			p = presence{exists: true, uid: o.uid}
		case verbDelete:
			p = presence{}
		}
		seen[at] = p
	}
	return nil
}

func (p presence) violates(o op) string {
	switch {
	case o.verb == verbCreate && p.exists:
		return "exists already"
	case o.verb == verbCreate:
		return ""
	case !p.exists:
		return "does not exist"
	case o.verb == verbSetStatus && p.uid != o.uid:
		return "was replaced by another of the same name"
	case o.verb != verbSetStatus && p.version != o.version:
		return fmt.Sprintf("is at version %d, not %d", p.version, o.version)
	}
	return ""
}

func (w *writer) apply(o op, i int) error {
	if o.verb == verbRequire {
		return nil
	}
	t := w.own(i)
	if o.verb == verbDelete {
		w.next.Version++
		old := t.remove(o.key)
		w.changes[i] = append(w.changes[i], change{version: w.next.Version, old: old})
		return nil
	}
	obj := t.spec.kind.New()
	if err := unmarshal(o.payload, obj); err != nil {
		return fmt.Errorf("%w: %s %s: %w", errCorrupt, o.kind, o.key, err)
	}
	before, replaces := t.get(o.key)
	t.share(o.verb, obj, before.obj)
	if replaces {
		obj = t.spec.merge(o.verb, before.obj, obj)
	}
	w.next.Version++
	obj.GetObjectKind().SetGroupVersionKind(t.spec.kind.GroupVersionKind)
	obj.SetResourceVersion(strconv.FormatUint(uint64(w.next.Version), 10))
	old := t.put(row{KeyOf(obj), w.next.Version, obj}) // the object's own key: one copy of its text
	w.changes[i] = append(w.changes[i], change{version: w.next.Version, old: old, new: obj})
	return nil
}

// merge is what becomes of before when update or setStatus brings after. It changes after or a copy of before.
func (t *tableSpec) merge(v verb, before, after object.Object) object.Object {
	if v == verbSetStatus {
		merged := shallow(before)
		setField(merged, after, "Status")
		return merged
	}
	if t.hasStatus {
		setField(after, before, "Status")
	}
	return after
}

// tableNamed finds a table by the group/version/kind of an entry.
func (s *Schema) tableNamed(name string) (int, error) {
	i, ok := s.byName[name]
	if !ok {
		return 0, fmt.Errorf("kind %s %w", name, ErrNewer)
	}
	return i, nil
}

func kindName(k schema.GroupVersionKind) string { return k.Group + "/" + k.Version + "/" + k.Kind }

func encodeBatch(txns [][]byte) []byte {
	size := 8
	for _, t := range txns {
		size += len(t) + binary.MaxVarintLen32
	}
	b := binary.AppendUvarint(make([]byte, 0, size), uint64(len(txns)))
	for _, t := range txns {
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	return sealEntry(typeBatch, b)
}
