package state

import (
	"bytes"
	"maps"
	"reflect"

	"github.com/mainstay-cluster/mainstay/object"
)

// siblings are up to two stored values that a new one may have much in common with. The zero Value is none.
type siblings [2]reflect.Value

// alike says which siblings a value is equal to, by bit.
type alike uint8

// share has what fresh points to taken from stored objects, or the same fields of them, wherever it is equal there: the newer
// version of an object differs from the one before in little, and from its neighbour by name, which mostly has the same
// owner, in not much more. Stored objects are never changed, so that one copy serves all. fresh is not stored yet, and its
// value stays what it is. known are at most two.
func share(fresh any, known ...any) {
	var of siblings
	for i, stored := range known {
		of[i] = reflect.ValueOf(stored).Elem()
	}
	unify(reflect.ValueOf(fresh).Elem(), of)
}

// share is what becomes of an operation's object beside what is stored.
func (t *table) share(v verb, fresh, before object.Object) {
	neighbour := t.neighbour(KeyOf(fresh))
	switch {
	case v == verbUpdate:
		share(fresh, before)
	case v == verbSetStatus && neighbour != nil:
		share(field(fresh, "Status"), field(before, "Status"), field(neighbour, "Status"))
	case v == verbSetStatus:
		share(field(fresh, "Status"), field(before, "Status"))
	case neighbour != nil:
		share(fresh, neighbour)
	}
}

// neighbour is the object before k in the order of keys, or nil.
func (t *table) neighbour(k Key) (found object.Object) {
	t.rows.DescendLessOrEqual(row{key: k}, func(r row) bool {
		if r.key != k {
			found = r.obj
		}
		return found == nil
	})
	return found
}

// unify shares what v holds, part by part, and returns to which siblings all of it is equal. It runs for every write and so
// makes no closures and no garbage.
func unify(v reflect.Value, of siblings) alike {
	switch v.Kind() {
	case reflect.Struct:
		if v.NumField() == 0 || v.Field(0).CanSet() {
			return unifyStruct(v, of)
		} // else time.Time, resource.Quantity: nobody sets their parts
	case reflect.Pointer:
		return unifyPointer(v, of)
	case reflect.Slice:
		return unifySlice(v, of)
	}
	var same alike
	for i, o := range of {
		if o.IsValid() && equal(v, o) {
			same |= 1 << i
		}
	}
	if v.Kind() == reflect.String || v.Kind() == reflect.Map {
		take(v, of, same)
	}
	return same
}

// equal compares what has no parts that could be shared by themselves.
func equal(v, o reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return v.String() == o.String()
	case reflect.Map:
		return equalMaps(v, o)
	case reflect.Interface:
		return v.IsNil() && o.IsNil()
	}
	switch {
	case v.CanInt():
		return v.Int() == o.Int()
	case v.Kind() == reflect.Bool:
		return v.Bool() == o.Bool()
	}
	return v.Type().Comparable() && v.Equal(o)
}

func equalMaps(v, o reflect.Value) bool {
	if v.Len() != o.Len() || v.IsNil() != o.IsNil() {
		return false
	}
	if texts, ok := v.Interface().(map[string]string); ok {
		return maps.Equal(texts, o.Interface().(map[string]string))
	}
	return v.Len() == 0 || reflect.DeepEqual(v.Interface(), o.Interface())
}

func unifyStruct(v reflect.Value, of siblings) alike {
	same := of.present()
	for f := range v.NumField() {
		parts := of
		for i, o := range of {
			if o.IsValid() {
				parts[i] = o.Field(f)
			}
		}
		same &= unify(v.Field(f), parts)
	}
	return same
}

func unifyPointer(v reflect.Value, of siblings) alike {
	var same alike
	targets := of
	for i, o := range of {
		if !o.IsValid() {
			continue
		}
		if v.IsNil() && o.IsNil() {
			same |= 1 << i
		}
		targets[i] = o.Elem() // the zero Value for nil
	}
	if v.IsNil() {
		return same
	}
	same = unify(v.Elem(), targets)
	take(v, of, same)
	return same
}

// unifySlice also lets go of room that decoding has left at the end: what is stored never grows.
func unifySlice(v reflect.Value, of siblings) alike {
	var same alike
	for i, o := range of {
		if o.IsValid() && o.Len() == v.Len() && o.IsNil() == v.IsNil() && equalBytes(v, o) {
			same |= 1 << i
		}
	}
	if v.Type().Elem().Kind() != reflect.Uint8 {
		same &= unifyElements(v, of)
	}
	take(v, of, same)
	if same == 0 && v.Cap() > v.Len() {
		exact := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(exact, v)
		v.Set(exact)
	}
	return same
}

// equalBytes compares slices of bytes, and takes others for equal.
func equalBytes(v, o reflect.Value) bool {
	return v.Type().Elem().Kind() != reflect.Uint8 || bytes.Equal(v.Bytes(), o.Bytes())
}

func unifyElements(v reflect.Value, of siblings) alike {
	same := of.present()
	for n := range v.Len() {
		var elements siblings
		for i, o := range of {
			if o.IsValid() && n < o.Len() {
				elements[i] = o.Index(n)
			}
		}
		same &= unify(v.Index(n), elements)
	}
	return same
}

// present names the siblings there are.
func (of siblings) present() (all alike) {
	for i, o := range of {
		if o.IsValid() {
			all |= 1 << i
		}
	}
	return all
}

// take replaces v by the first sibling that it is equal to.
func take(v reflect.Value, of siblings, same alike) {
	for i, o := range of {
		if same&(1<<i) != 0 && v.CanSet() {
			v.Set(o)
			return
		}
	}
}
