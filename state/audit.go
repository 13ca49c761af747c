package state

import (
	"fmt"
	"hash/crc64"

	"github.com/mainstay-cluster/mainstay/object"
)

// audit finds out who changes objects that are shared. It is used by Apply's goroutine and by Audited's caller, never
// both at a time.
type audit struct {
	hashes map[object.Object]uint64 // of stored objects, by identity
	report func(error)
}

var auditTable = crc64.MakeTable(crc64.ECMA)

// Audited makes a new store remember what each object was when it was stored, and call report for one that is different
// when it is replaced: somebody changed a shared object instead of a copy. It costs an encoding per write and is for
// tests. The function returned looks at all objects there are; call it once nothing is written any more.
func Audited(s *Store, report func(error)) (check func()) {
	s.audit = &audit{hashes: map[object.Object]uint64{}, report: report}
	for _, t := range s.View().tables {
		t.rows.Ascend(func(r row) bool { s.audit.remember(r.obj); return true })
	}
	return func() {
		for o := range s.audit.hashes {
			s.audit.compare(o)
		}
	}
}

// stored notes the changes of one entry.
func (a *audit) stored(changes []change) {
	if a == nil {
		return
	}
	for _, c := range changes {
		if c.old != nil {
			a.compare(c.old)
			delete(a.hashes, c.old)
		}
		if c.new != nil {
			a.remember(c.new)
		}
	}
}

func (a *audit) remember(o object.Object) { a.hashes[o] = hashOf(o) }

func (a *audit) compare(o object.Object) {
	if hash, known := a.hashes[o]; known && hash != hashOf(o) {
		a.report(fmt.Errorf("%T %s was changed after it was stored: copy an object before changing it", o, KeyOf(o)))
	}
}

func hashOf(o object.Object) uint64 {
	b, err := marshal(o)
	if err != nil {
		panic(fmt.Sprintf("state: %T %s was stored and cannot be encoded: %v", o, KeyOf(o), err))
	}
	return crc64.Checksum(b, auditTable)
}
