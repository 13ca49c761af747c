package state

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/utils/third_party/forked/golang/btree"

	"github.com/mainstay-cluster/mainstay/object"
)

// degree of the trees: 32 keeps a node within a few cache lines and a copied path short.
const degree = 32

// row is one stored object. Index rows hold keys, not pointers: an index is then touched only when its value changes.
type row struct {
	key     Key
	version Version
	obj     object.Object
}

type indexRow struct {
	value string
	key   Key
}

func lessRow(a, b row) bool { return a.key.compare(b.key) < 0 }

func lessIndexRow(a, b indexRow) bool {
	if c := strings.Compare(a.value, b.value); c != 0 {
		return c < 0
	}
	return a.key.compare(b.key) < 0
}

// table is one kind's objects and their indexes. A published table is never written; see fork.
type table struct {
	spec    *tableSpec
	rows    *btree.BTree[row]
	indexes []*btree.BTree[indexRow]
}

func newTable(spec *tableSpec) *table {
	t := &table{spec: spec, rows: btree.New(degree, lessRow)}
	for range spec.indexes {
		t.indexes = append(t.indexes, btree.New(degree, lessIndexRow))
	}
	return t
}

// fork returns a writable copy in constant time, copy-on-write. It may be called concurrently on a published table:
// Clone writes to the tree it is called on, so each caller clones a copy of the tree's header instead.
func (t *table) fork() *table {
	f := &table{spec: t.spec, rows: forkTree(t.rows), indexes: make([]*btree.BTree[indexRow], len(t.indexes))}
	for i, ix := range t.indexes {
		f.indexes[i] = forkTree(ix)
	}
	return f
}

func forkTree[T any](tree *btree.BTree[T]) *btree.BTree[T] {
	header := *tree
	return header.Clone()
}

func (t *table) get(k Key) (row, bool) { return t.rows.Get(row{key: k}) }

// put stores r and moves its index rows; it returns the object it replaces, or nil.
func (t *table) put(r row) object.Object {
	old, replaced := t.rows.ReplaceOrInsert(r)
	if !replaced {
		t.reindex(r.key, nil, r.obj)
		return nil
	}
	t.reindex(r.key, old.obj, r.obj)
	return old.obj
}

func (t *table) remove(k Key) object.Object {
	old, ok := t.rows.Delete(row{key: k})
	if !ok {
		return nil
	}
	t.reindex(k, old.obj, nil)
	return old.obj
}

func (t *table) reindex(k Key, old, new object.Object) {
	for i, spec := range t.spec.indexes {
		var before, after []string
		if old != nil {
			before = spec.keys(old)
		}
		if new != nil {
			after = spec.keys(new)
		}
		if slices.Equal(before, after) {
			continue
		}
		for _, value := range before {
			t.indexes[i].Delete(indexRow{value, k})
		}
		for _, value := range after {
			t.indexes[i].ReplaceOrInsert(indexRow{value, k})
		}
	}
}

// shallow copies the struct that o points to: metadata, spec and status may then be replaced one by one, while all they
// point to stays shared with o.
func shallow(o object.Object) object.Object {
	v := reflect.New(reflect.TypeOf(o).Elem())
	v.Elem().Set(reflect.ValueOf(o).Elem())
	return v.Interface().(object.Object)
}

// setField makes dst's field the same as src's; both are of one type.
func setField(dst, src object.Object, name string) {
	reflect.ValueOf(dst).Elem().FieldByName(name).Set(reflect.ValueOf(src).Elem().FieldByName(name))
}

func clearField(dst object.Object, name string) {
	reflect.ValueOf(dst).Elem().FieldByName(name).SetZero()
}

func field(o object.Object, name string) any {
	return reflect.ValueOf(o).Elem().FieldByName(name).Addr().Interface()
}

func (t *table) index(name string) *btree.BTree[indexRow] {
	for i, spec := range t.spec.indexes {
		if spec.name == name {
			return t.indexes[i]
		}
	}
	panic("state: index " + name + " of " + t.spec.kind.Kind + " is not in the schema")
}
