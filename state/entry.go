package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/mainstay-cluster/mainstay/object"
)

// An entry of the log is
//
//	version byte · CRC32C of the rest, 4 bytes little endian · type byte · body
//
// and a body, by type: batch – transactions, each passing or failing whole; part – a piece of a transaction that is
// larger than an entry; flip – the last piece, which makes the parts take effect; term – a new leader began.
// A transaction is its operations: verb · kind · namespace · name · precondition · payload. Strings and payloads are
// preceded by their length, numbers are unsigned varints. Kinds are named by group, version and kind once per transaction.

const entryVersion = 1

type entryType byte

const (
	typeBatch entryType = iota + 1
	typePart
	typeFlip
	typeTerm
)

type verb byte

const (
	verbCreate    verb = iota + 1 // key is free
	verbUpdate                    // resourceVersion is precondition; keeps status
	verbSetStatus                 // uid is precondition; replaces status only
	verbDelete                    // resourceVersion is precondition
	verbRequire                   // resourceVersion is precondition; writes nothing
)

// op is one operation of a transaction as it travels.
type op struct {
	verb    verb
	kind    string // group/version/kind
	key     Key
	version Version // precondition of update, delete and require
	uid     string  // precondition of setStatus
	payload []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCorrupt marks an entry that is not what a Mainstay wrote.
var errCorrupt = errors.New("corrupt entry")

func sealEntry(t entryType, body []byte) []byte {
	entry := make([]byte, 0, 6+len(body))
	entry = append(entry, entryVersion, 0, 0, 0, 0, byte(t))
	entry = append(entry, body...)
	binary.LittleEndian.PutUint32(entry[1:], crc32.Checksum(entry[5:], castagnoli))
	return entry
}

func openEntry(entry []byte) (entryType, []byte, error) {
	if len(entry) < 6 {
		return 0, nil, fmt.Errorf("%w: %d bytes", errCorrupt, len(entry))
	}
	if entry[0] != entryVersion {
		return 0, nil, fmt.Errorf("entry of version %d %w", entry[0], ErrNewer)
	}
	if binary.LittleEndian.Uint32(entry[1:]) != crc32.Checksum(entry[5:], castagnoli) {
		return 0, nil, fmt.Errorf("%w: checksum differs", errCorrupt)
	}
	return entryType(entry[5]), entry[6:], nil
}

// EntryName says what an entry of the log is to those who only pass it on: a batch, a part, a flip or a term, as above; else an
// entry.
func EntryName(entry []byte) string {
	if len(entry) < 6 || entry[0] != entryVersion {
		return "an entry"
	}
	switch entryType(entry[5]) {
	case typeBatch:
		return "a batch"
	case typePart:
		return "a part"
	case typeFlip:
		return "a flip"
	case typeTerm:
		return "a term"
	}
	return "an entry"
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// encodeTxn encodes the operations of one transaction.
func encodeTxn(ops []op) []byte {
	size := 64
	for _, o := range ops {
		size += len(o.payload) + len(o.key.Namespace) + len(o.key.Name) + len(o.uid) + 24
	}
	kinds, numbers := kindTable(ops)
	b := binary.AppendUvarint(make([]byte, 0, size), uint64(len(kinds)))
	for _, k := range kinds {
		b = appendString(b, k)
	}
	b = binary.AppendUvarint(b, uint64(len(ops)))
	for _, o := range ops {
		b = append(b, byte(o.verb))
		b = binary.AppendUvarint(b, numbers[o.kind])
		b = appendString(b, o.key.Namespace)
		b = appendString(b, o.key.Name)
		b = binary.AppendUvarint(b, uint64(o.version))
		b = appendString(b, o.uid)
		b = binary.AppendUvarint(b, uint64(len(o.payload)))
		b = append(b, o.payload...)
	}
	return b
}

func kindTable(ops []op) ([]string, map[string]uint64) {
	var kinds []string
	numbers := map[string]uint64{}
	for _, o := range ops {
		if _, ok := numbers[o.kind]; !ok {
			numbers[o.kind] = uint64(len(kinds))
			kinds = append(kinds, o.kind)
		}
	}
	return kinds, numbers
}

// decodeTxn is encodeTxn's inverse. Payloads alias b.
func decodeTxn(b []byte) ([]op, error) {
	d := decoder{rest: b}
	kinds := make([]string, d.count())
	for i := range kinds {
		kinds[i] = d.string()
	}
	ops := make([]op, d.count())
	for i := range ops {
		o := &ops[i]
		o.verb = verb(d.byte())
		if n := d.uvarint(); n < uint64(len(kinds)) {
			o.kind = kinds[n]
		} else {
			d.fail()
		}
		o.key = Key{d.string(), d.string()}
		o.version = Version(d.uvarint())
		o.uid = d.string()
		o.payload = d.bytes()
		if d.bad {
			break
		}
		if o.verb < verbCreate || o.verb > verbRequire {
			return nil, fmt.Errorf("operation %d %w", o.verb, ErrNewer)
		}
	}
	if d.bad || len(d.rest) != 0 {
		return nil, fmt.Errorf("%w: transaction ends early or late", errCorrupt)
	}
	return ops, nil
}

// decoder reads the primitives above. After the first error every read returns zero and bad stays set.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) fail() { d.bad, d.rest = true, nil }

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// count reads a number of items, each at least one byte long, so that a corrupt one cannot make us allocate.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes()) }

// marshal encodes an object as its own protobuf, or as JSON if its kind has none.
func marshal(o object.Object) ([]byte, error) {
	if m, ok := o.(interface{ Marshal() ([]byte, error) }); ok {
		return m.Marshal()
	}
	return json.Marshal(o)
}

// unmarshal is marshal's inverse. The object may then be encoded by many at a time: a Quantity that is not in its usual
// form works out its text when it is first asked and keeps it, so it is asked here, by way of its size.
func unmarshal(b []byte, o object.Object) error {
	m, ok := o.(interface {
		Unmarshal([]byte) error
		Size() int
	})
	if !ok {
		return json.Unmarshal(b, o)
	}
	err := m.Unmarshal(b)
	_ = m.Size()
	return err
}
