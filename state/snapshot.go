package state

import (
	"iter"

	"github.com/mainstay-cluster/mainstay/object"
)

// Snapshot is the whole state at one version. It is immutable, safe to share, and O(1) to take.
type Snapshot struct {
	Version Version // of the newest change
	Index   uint64  // of the newest log entry applied; for freshness waits only

	schema *Schema
	tables []*table
	staged staging // parts of a transaction whose last part has not come yet
}

// Reader is a *Snapshot, or a *Txn, which reads its own writes.
type Reader interface {
	table(i int) *table
	definition() *Schema
}

func (s *Snapshot) table(i int) *table  { return s.tables[i] }
func (s *Snapshot) definition() *Schema { return s.schema }

// Get returns the object at k. It is shared: copy before changing it.
func Get[T object.Object](r Reader, k Key) (T, bool) {
	found, ok := r.table(tableOf[T](r.definition())).get(k)
	if !ok {
		var zero T
		return zero, false
	}
	return found.obj.(T), true
}

// List yields the objects of a namespace, of all if it is "", ordered by namespace and name.
func List[T object.Object](r Reader, namespace string) iter.Seq[T] {
	return typed[T](r.table(tableOf[T](r.definition())).list(namespace))
}

// ListBy yields the objects that ix finds by value, ordered by namespace and name.
func ListBy[T object.Object](r Reader, ix Index[T], value string) iter.Seq[T] {
	return typed[T](r.table(tableOf[T](r.definition())).listBy(ix.name, value))
}

// Len is the number of objects of a kind.
func Len[T object.Object](r Reader) int { return r.table(tableOf[T](r.definition())).rows.Len() }

// LenKind is Len for a kind known only at run time.
func LenKind(r Reader, kind object.Kind) int {
	return r.table(r.definition().tableOfKind(kind)).rows.Len()
}

// GetKind is Get for a kind known only at run time.
func GetKind(r Reader, kind object.Kind, k Key) (object.Object, bool) {
	found, ok := r.table(r.definition().tableOfKind(kind)).get(k)
	return found.obj, ok
}

// ListKind is List for a kind known only at run time.
func ListKind(r Reader, kind object.Kind, namespace string) iter.Seq[object.Object] {
	return r.table(r.definition().tableOfKind(kind)).list(namespace)
}

// Has says whether the store holds objects of this kind at all.
func Has(r Reader, kind object.Kind) bool {
	_, ok := r.definition().byGVK[kind.GroupVersionKind]
	return ok
}

func typed[T object.Object](objects iter.Seq[object.Object]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for o := range objects {
			if !yield(o.(T)) {
				return
			}
		}
	}
}

func (t *table) list(namespace string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		t.rows.AscendGreaterOrEqual(row{key: Key{Namespace: namespace}}, func(r row) bool {
			if namespace != "" && r.key.Namespace != namespace {
				return false
			}
			return yield(r.obj)
		})
	}
}

const (
	// keysFirst and keysMost are how many rows of an index are taken at a time: who wants one object does not pay for all.
	keysFirst, keysMost = 4, 256
	// rowsPassed is how many rows that the index does not name are walked over before the next is looked up: a look-up costs as
	// much as a hundred, but most of what has one owner lies side by side, and what is on one node never does.
	rowsPassed = 4
)

func (t *table) listBy(index, value string) iter.Seq[object.Object] {
	ix := t.index(index)
	return func(yield func(object.Object) bool) {
		from, more := indexRow{value: value}, true
		var keys []Key
		for n := keysFirst; more; n = min(4*n, keysMost) {
			keys, more = keys[:0], false
			ix.AscendGreaterOrEqual(from, func(ir indexRow) bool {
				if ir.value != value {
					return false
				}
				if more = len(keys) == n; more {
					from = ir
					return false
				}
				keys = append(keys, ir.key)
				return true
			})
			if !t.each(keys, yield) {
				return
			}
		}
	}
}

// each yields the objects at keys, which are in order, and says whether all were taken.
func (t *table) each(keys []Key, yield func(object.Object) bool) bool {
	wanted := true
	for len(keys) > 0 && wanted {
		before, passed := len(keys), 0
		t.rows.AscendGreaterOrEqual(row{key: keys[0]}, func(r row) bool {
			if r.key != keys[0] {
				passed++
				return passed <= rowsPassed && len(keys) < before
			}
			keys, passed = keys[1:], 0
			wanted = yield(r.obj)
			return wanted && len(keys) > 0
		})
		if len(keys) == before {
			panic("state: an index of " + t.spec.kind.Kind + " names " + keys[0].String() + ", which is not there")
		}
	}
	return wanted
}
