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

func (t *table) listBy(index, value string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		t.index(index).AscendGreaterOrEqual(indexRow{value: value}, func(ir indexRow) bool {
			if ir.value != value {
				return false
			}
			found, _ := t.get(ir.key)
			return yield(found.obj)
		})
	}
}
