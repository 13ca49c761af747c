package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// What follows reads the shape of Kubernetes' types from the tags they carry for strategic merge patches.

// member is one JSON field of a struct.
type member struct {
	index int
	name  string // "" where the field is inlined
	key   string // patchMergeKey: the elements of this list are told apart by it
}

// members lists the JSON fields of a struct type.
func members(t reflect.Type) []member {
	out := make([]member, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" && !strings.Contains(options, "inline") && !f.Anonymous {
			name = f.Name
		}
		key := f.Tag.Get("patchMergeKey")
		if f.Type == taints {
			key = "key" // and effect; to Kubernetes a node's taints are one value, but here both Git and the cluster set some
		}
		out = append(out, member{index: i, name: name, key: key})
	}
	return out
}

var taints = reflect.TypeFor[[]corev1.Taint]()

var marshaler = reflect.TypeFor[json.Marshaler]()

// atomic says that a type has no fields of its own: it changes as a whole.
func atomic(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		return t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)
	case reflect.Map:
		return t.Key().Kind() != reflect.String
	case reflect.Pointer:
		return atomic(t.Elem())
	}
	return true
}

// absent says that encoding v with omitempty would leave it out.
func absent(v reflect.Value) bool {
	if !v.IsValid() {
		return true
	}
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	}
	return v.IsZero()
}

// same compares as Kubernetes does: nil is empty, and quantities are numbers.
func same(a, b reflect.Value) bool {
	if absent(a) || absent(b) {
		return absent(a) && absent(b)
	}
	if a.Comparable() && a.Kind() != reflect.Pointer && a.Kind() != reflect.Struct && a.Kind() != reflect.Interface {
		return a.Equal(b)
	}
	return apiequality.Semantic.DeepEqual(a.Interface(), b.Interface())
}

// byKey finds the elements of a list by their merge key. It fails where two have the same: then the list is one value.
// Ports have their number as key in the tags, but the same number may be used once per protocol; taints their key and effect.
func byKey(list reflect.Value, key string) (elements map[string]reflect.Value, order []string, ok bool) {
	elements = map[string]reflect.Value{}
	if !list.IsValid() {
		return elements, nil, true
	}
	element := list.Type().Elem()
	if element.Kind() != reflect.Struct {
		return nil, nil, false
	}
	parts := keyMembers(element, key)
	for i := range list.Len() {
		id := elementKey(list.Index(i), parts)
		if _, twice := elements[id]; twice {
			return nil, nil, false
		}
		elements[id] = list.Index(i)
		order = append(order, id)
	}
	return elements, order, len(parts) > 0
}

func keyMembers(element reflect.Type, key string) (parts []member) {
	for _, m := range members(element) {
		if m.name == key || m.name == "protocol" || m.name == "effect" {
			parts = append(parts, m)
		}
	}
	return parts
}

// elementKey reads "name=web", or "port=53,protocol=UDP".
func elementKey(element reflect.Value, parts []member) string {
	texts := make([]string, len(parts))
	for i, m := range parts {
		texts[i] = fmt.Sprintf("%s=%v", m.name, element.Field(m.index).Interface())
	}
	return strings.Join(texts, ",")
}
