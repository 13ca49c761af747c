package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/mainstay-cluster/mainstay/object"
)

// secretName matches names of environment variables whose values are better not shown, even where a repository holds
// them in the open.
var secretName = regexp.MustCompile(`(?i)(pass(word|wd|phrase)?|secret|token|credential|private|api_?key|access_?key)`)

// Diff lists how after differs from before, two objects of one kind, field by field and ordered by path. Elements of lists
// are told apart by their keys, so an inserted container is one change. Status and what the store sets are left out, and
// the values of a Secret, and of environment variables that are named like one, are never shown.
func Diff(before, after object.Object) []FieldChange {
	d := differ{secret: object.KindOf(after).Redact != nil}
	a, b := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	for _, m := range members(a.Type()) {
		switch a.Type().Field(m.index).Name {
		case "TypeMeta", "ObjectMeta", "Status":
		default:
			d.diff(path{}.field(m.name), a.Field(m.index), b.Field(m.index), m.key)
		}
	}
	meta := path{}.field("metadata")
	d.diff(meta.field("labels"), reflect.ValueOf(before.GetLabels()), reflect.ValueOf(after.GetLabels()), "")
	d.diff(meta.field("annotations"), reflect.ValueOf(before.GetAnnotations()), reflect.ValueOf(after.GetAnnotations()), "")
	slices.SortStableFunc(d.changes, func(a, b FieldChange) int { return cmp.Compare(a.Path, b.Path) })
	return d.changes
}

// path is where a value stands: spec.containers[name=web].image.
type path struct {
	text   string
	hidden bool // its values may not be shown
	secret bool // its field "value" may not be shown
}

func (p path) field(name string) path {
	switch {
	case name == "":
		return p
	case p.text == "":
		return path{text: name, hidden: p.hidden}
	}
	return path{text: p.text + "." + name, hidden: p.hidden || p.secret && name == "value"}
}

func (p path) element(key string) path { return path{text: p.text + "[" + key + "]", hidden: p.hidden} }

type differ struct {
	secret  bool // a Secret's fields
	changes []FieldChange
}

// diff compares two values of one type, of which one may be invalid: not there.
func (d *differ) diff(at path, a, b reflect.Value, key string) {
	if same(a, b) {
		return
	}
	there := a
	if !there.IsValid() {
		there = b
	}
	at.hidden = at.hidden || d.secret && at.text == "data"
	switch {
	case key != "" && there.Kind() == reflect.Slice && d.list(at, a, b, key):
	case atomic(there.Type()):
		d.changed(at, present(a), present(b))
	case there.Kind() == reflect.Pointer:
		d.pointer(at, a, b)
	case there.Kind() == reflect.Map:
		d.entries(at, a, b)
	default:
		d.members(at, a, b, there.Type())
	}
}

func (d *differ) pointer(at path, a, b reflect.Value) {
	before := len(d.changes)
	d.diff(at, elem(a), elem(b), "")
	if len(d.changes) == before { // only its being there differs, as with emptyDir: {}
		d.changed(at, a, b)
	}
}

func (d *differ) changed(at path, a, b reflect.Value) {
	d.changes = append(d.changes, FieldChange{Path: at.text, Old: show(at, a), New: show(at, b)})
}

// present is v, or nothing if v is what a field holds that is not given.
func present(v reflect.Value) reflect.Value {
	if absent(v) {
		return reflect.Value{}
	}
	return v
}

func elem(p reflect.Value) reflect.Value {
	if !p.IsValid() {
		return p
	}
	return p.Elem()
}

func (d *differ) members(at path, a, b reflect.Value, t reflect.Type) {
	for _, m := range members(t) {
		d.diff(at.field(m.name), fieldOf(a, m), fieldOf(b, m), m.key)
	}
}

func (d *differ) entries(at path, a, b reflect.Value) {
	names := map[string]bool{}
	for _, m := range []reflect.Value{a, b} {
		if m.IsValid() {
			for _, k := range m.MapKeys() {
				names[k.String()] = true
			}
		}
	}
	for name := range names {
		entry := at.element(name)
		if name != "" && !strings.ContainsAny(name, "./[]=") {
			entry = at.field(name)
		}
		d.entry(entry, lookup(a, name), lookup(b, name))
	}
}

// entry compares entries of a map, where the empty value is not the same as none.
func (d *differ) entry(at path, a, b reflect.Value) {
	there := a
	if !there.IsValid() {
		there = b
	}
	switch {
	case !atomic(there.Type()):
		d.diff(at, a, b, "")
	case a.IsValid() != b.IsValid() || !same(a, b):
		at.hidden = at.hidden || d.secret && strings.HasPrefix(at.text, "data")
		d.changed(at, a, b)
	}
}

func lookup(m reflect.Value, name string) reflect.Value {
	if !m.IsValid() || m.IsNil() {
		return reflect.Value{}
	}
	return m.MapIndex(reflect.ValueOf(name).Convert(m.Type().Key()))
}

// list compares lists with a key; it declines where two elements have the same.
func (d *differ) list(at path, a, b reflect.Value, key string) bool {
	before, _, okA := byKey(a, key)
	after, order, okB := byKey(b, key)
	if !okA || !okB {
		return false
	}
	count := len(d.changes)
	for id, element := range before {
		d.element(at, id, element, after[id])
	}
	for _, id := range order {
		if _, both := before[id]; !both {
			d.element(at, id, reflect.Value{}, after[id])
		}
	}
	if len(d.changes) == count { // the same elements in another order, which containers start in
		d.changes = append(d.changes, FieldChange{Path: at.text, Old: orderOf(a, key), New: orderOf(b, key)})
	}
	return true
}

func (d *differ) element(at path, id string, a, b reflect.Value) {
	inside := at.element(id)
	if name, isName := strings.CutPrefix(id, "name="); isName && strings.HasSuffix(at.text, ".env") && secretName.MatchString(name) {
		inside.secret = true
	}
	d.diff(inside, a, b, "")
}

func orderOf(list reflect.Value, key string) string {
	_, order, _ := byKey(list, key)
	return fmt.Sprintf("order %s", strings.Join(order, " "))
}

// show is a value as compact JSON, or what stands for it.
func show(at path, v reflect.Value) string {
	switch {
	case !v.IsValid(), v.Kind() == reflect.Pointer && v.IsNil(), (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.IsNil():
		return ""
	case at.hidden:
		return Concealed
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v.Interface()); err != nil {
		return fmt.Sprintf("(%s)", v.Type())
	}
	return strings.TrimSuffix(text.String(), "\n")
}
