package plan

import (
	"reflect"

	"github.com/mainstay-cluster/mainstay/object"
)

// Merge returns live with what changed between base and want, the former and the present declaration with their defaults;
// base may be nil. What neither names, or names alike, stays as it is live: a scaler's replicas, an allocated address.
// Name, status and what the store sets are live's. The result shares memory with all three, which are only read.
//
// It is `kubectl apply`'s three-way merge, but for two things. Defaults take part, so that one which depends on another
// field (imagePullPolicy on the tag) follows it: a cluster that is rebuilt from the repository then gets the same objects
// as one that lived through its commits, and adopts its Pods. And ports are told apart by protocol too.
func Merge(base, want, live object.Object) object.Object {
	out := reflect.New(reflect.TypeOf(live).Elem()).Elem()
	was := reflect.Value{}
	if base != nil {
		was = reflect.ValueOf(base).Elem()
	}
	is, wanted := reflect.ValueOf(live).Elem(), reflect.ValueOf(want).Elem()
	out.Set(is)
	for _, m := range members(out.Type()) {
		switch out.Type().Field(m.index).Name {
		case "TypeMeta", "ObjectMeta", "Status":
		default:
			out.Field(m.index).Set(merge(fieldOf(was, m), wanted.Field(m.index), is.Field(m.index), m.key))
		}
	}
	merged := out.Addr().Interface().(object.Object)
	mergeMeta(base, want, merged)
	return merged
}

// mergeMeta merges what a repository may say in metadata; all else is the store's.
func mergeMeta(base, want, merged object.Object) {
	var labels, annotations map[string]string
	if base != nil {
		labels, annotations = base.GetLabels(), base.GetAnnotations()
	}
	merged.SetLabels(mergeTexts(labels, want.GetLabels(), merged.GetLabels()))
	merged.SetAnnotations(mergeTexts(annotations, want.GetAnnotations(), merged.GetAnnotations()))
}

func mergeTexts(base, want, live map[string]string) map[string]string {
	merged := merge(reflect.ValueOf(base), reflect.ValueOf(want), reflect.ValueOf(live), "")
	return merged.Interface().(map[string]string)
}

func fieldOf(v reflect.Value, m member) reflect.Value {
	if !v.IsValid() {
		return v
	}
	return v.Field(m.index)
}

// merge is Merge for one value. An invalid base is a value that nobody named before.
func merge(base, want, live reflect.Value, key string) reflect.Value {
	switch {
	case base.IsValid() && same(base, want):
		return live
	case !base.IsValid() && absent(want):
		return live
	case absent(live):
		return want
	case key != "" && want.Kind() == reflect.Slice:
		return mergeList(base, want, live, key)
	case absent(want) && want.Kind() == reflect.Pointer: // of all that has parts, what is only live stays
		return want
	case atomic(want.Type()):
		return want
	case want.Kind() == reflect.Pointer:
		return mergePointer(base, want, live)
	case want.Kind() == reflect.Map:
		return mergeMap(base, want, live)
	}
	return mergeStruct(base, want, live)
}

func mergePointer(base, want, live reflect.Value) reflect.Value {
	if base.IsValid() {
		base = base.Elem() // invalid if it is nil
	}
	out := reflect.New(want.Type().Elem())
	out.Elem().Set(merge(base, want.Elem(), live.Elem(), ""))
	return out
}

func mergeStruct(base, want, live reflect.Value) reflect.Value {
	out := reflect.New(live.Type()).Elem()
	out.Set(live)
	for _, m := range members(out.Type()) {
		out.Field(m.index).Set(merge(fieldOf(base, m), want.Field(m.index), live.Field(m.index), m.key))
	}
	return out
}

func mergeMap(base, want, live reflect.Value) reflect.Value {
	out := reflect.MakeMap(live.Type())
	get := func(m, k reflect.Value) reflect.Value {
		if !m.IsValid() || m.IsNil() {
			return reflect.Value{}
		}
		return m.MapIndex(k)
	}
	for _, k := range live.MapKeys() {
		dropped := get(base, k).IsValid() && !get(want, k).IsValid()
		if !dropped {
			out.SetMapIndex(k, live.MapIndex(k))
		}
	}
	for _, k := range want.MapKeys() {
		b, w, l := get(base, k), want.MapIndex(k), get(live, k)
		switch {
		case b.IsValid() && same(b, w): // as it is live
		case !l.IsValid() || atomic(w.Type()): // an entry is named by being there, even if it is empty
			out.SetMapIndex(k, w)
		default:
			out.SetMapIndex(k, merge(b, w, l, ""))
		}
	}
	return out
}

// mergeList merges lists whose elements have a key: in want's order, then what is only live.
func mergeList(base, want, live reflect.Value, key string) reflect.Value {
	wanted, order, ok := byKey(want, key)
	is, liveOrder, okLive := byKey(live, key)
	was, _, okBase := byKey(base, key)
	if !ok || !okLive || !okBase {
		return want
	}
	out := reflect.MakeSlice(live.Type(), 0, len(order))
	for _, id := range order {
		element := wanted[id]
		if l, found := is[id]; found {
			element = merge(was[id], element, l, "")
		}
		out = reflect.Append(out, element)
	}
	for _, id := range liveOrder {
		_, named := wanted[id]
		_, dropped := was[id]
		if !named && !dropped {
			out = reflect.Append(out, is[id])
		}
	}
	return out
}
