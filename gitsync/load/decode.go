package load

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
)

// decoder fills Go values from a document as strict JSON decoding does (exact case, no unknown field, no conversion between
// types), but finds every mistake at once and knows where each stands. What it accepts, sigs.k8s.io/json accepts
// with the same result: a test compares them.
type decoder struct {
	report  func(at position, field, message string)
	path    []step // to the value being decoded
	unknown int    // fields so far
}

// step is a field, a map key or, if name is "", a list index.
type step struct {
	name  string
	index int
	key   bool
}

func (d *decoder) field() string {
	var b strings.Builder
	for _, s := range d.path {
		switch {
		case s.key:
			fmt.Fprintf(&b, "[%s]", s.name)
		case s.name == "":
			fmt.Fprintf(&b, "[%d]", s.index)
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.name)
		}
	}
	return b.String()
}

func (d *decoder) push(s step) { d.path = append(d.path, s) }
func (d *decoder) pop()        { d.path = d.path[:len(d.path)-1] }

func (d *decoder) wrong(v *value, format string, args ...any) {
	d.report(v.position, d.field(), fmt.Sprintf(format, args...))
}

// decode fills dst from v; what is wrong is reported and left zero, and so is what is null.
func (d *decoder) decode(v *value, dst reflect.Value) {
	if v.form == formNull {
		return
	}
	if special := specialTypes[dst.Type()]; special != nil {
		special(d, v, dst)
		return
	}
	switch dst.Kind() {
	case reflect.Pointer:
		dst.Set(reflect.New(dst.Type().Elem()))
		d.decode(v, dst.Elem())
	case reflect.Struct:
		d.object(v, dst)
	case reflect.Map:
		d.mapping(v, dst)
	case reflect.Slice:
		d.list(v, dst)
	case reflect.String:
		if d.isText(v) {
			dst.SetString(v.text)
		}
	case reflect.Bool:
		d.truth(v, dst)
	case reflect.Int32, reflect.Int64, reflect.Int:
		d.integer(v, dst)
	default:
		d.byItself(v, dst)
	}
}

func (d *decoder) object(v *value, dst reflect.Value) {
	if v.form != formObject {
		d.wrong(v, "must be an object, not %s", v.form)
		return
	}
	fields := fieldsOf(dst.Type())
	for i, k := range v.keys {
		d.push(step{name: k.name})
		if index, known := fields.index[k.name]; known {
			d.decode(v.items[i], dst.FieldByIndex(index))
		} else {
			d.report(k.position, d.field(), d.unknownField(k.name, fields.names))
		}
		d.pop()
	}
}

// unknownField stops searching for what was meant when nobody will read it.
func (d *decoder) unknownField(name string, known []string) string {
	if d.unknown++; d.unknown > maxFileProblems {
		known = nil
	}
	return unknownField(name, known)
}

func (d *decoder) mapping(v *value, dst reflect.Value) {
	if v.form != formObject {
		d.wrong(v, "must be an object, not %s", v.form)
		return
	}
	out := reflect.MakeMapWithSize(dst.Type(), len(v.keys))
	for i, k := range v.keys {
		d.push(step{name: k.name, key: true})
		if v.items[i].form == formNull {
			d.report(k.position, d.field(), `has no value: write "" if it is meant to be empty`)
		}
		item := reflect.New(dst.Type().Elem()).Elem()
		d.decode(v.items[i], item)
		out.SetMapIndex(reflect.ValueOf(k.name).Convert(dst.Type().Key()), item)
		d.pop()
	}
	dst.Set(out)
}

func (d *decoder) list(v *value, dst reflect.Value) {
	if v.form != formList {
		d.wrong(v, "must be a list, not %s: begin each item with \"- \"", v.form)
		return
	}
	out := reflect.MakeSlice(dst.Type(), len(v.items), len(v.items))
	for i, item := range v.items {
		d.push(step{index: i})
		if item.form == formNull {
			d.wrong(item, "is an empty list item: remove it")
		}
		d.decode(item, out.Index(i))
		d.pop()
	}
	dst.Set(out)
}

// isText refuses what YAML takes for something else: whether `no` or 1.10 was meant as written is not ours to guess.
func (d *decoder) isText(v *value) bool {
	switch v.form {
	case formText:
		return true
	case formBool:
		if v.word {
			d.wrong(v, "must be text, but YAML takes this word for true or false: quote it")
			return false
		}
		fallthrough
	case formNumber:
		d.wrong(v, "must be text, not %s: quote it", v.form)
	default:
		d.wrong(v, "must be text, not %s", v.form)
	}
	return false
}

func (d *decoder) truth(v *value, dst reflect.Value) {
	if v.form != formBool {
		hint := ""
		if v.form == formText && (v.text == "true" || v.text == "false") {
			hint = ": remove the quotes"
		}
		d.wrong(v, "must be true or false, not %s%s", v.form, hint)
		return
	}
	dst.SetBool(v.text == "true")
}

func (d *decoder) integer(v *value, dst reflect.Value) {
	if v.form != formNumber {
		hint := ""
		if v.form == formText && wholeNumber.MatchString(v.text) {
			hint = ": remove the quotes"
		}
		d.wrong(v, "must be a whole number, not %s%s", v.form, hint)
		return
	}
	if !wholeNumber.MatchString(v.text) {
		d.wrong(v, "must be a whole number in plain decimal digits%s", meaning(v.text))
		return
	}
	n, err := strconv.ParseInt(v.text, 10, dst.Type().Bits())
	if err != nil {
		d.wrong(v, "is out of range: the field holds %s", bounds(dst.Type().Bits()))
		return
	}
	dst.SetInt(n)
}

var (
	wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	jsonNumber  = regexp.MustCompile(`^(0|-?[1-9][0-9]*|-?0\.[0-9]*[1-9][0-9]*|-?(0|[1-9][0-9]*)\.[0-9]+)([eE][+-]?[0-9]+)?$`)
)

// meaning says what YAML takes an odd number for.
func meaning(text string) string {
	if n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64); err == nil {
		return fmt.Sprintf(": YAML reads %s as %d", object.Shorten(text), n)
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return fmt.Sprintf(": YAML reads %s as %d", object.Shorten(text), int64(f))
	}
	return ""
}

func bounds(bits int) string {
	if bits == 32 {
		return fmt.Sprintf("%d to %d", math.MinInt32, math.MaxInt32)
	}
	return fmt.Sprintf("%d to %d", math.MinInt64, math.MaxInt64)
}

// byItself is for the few types left that only know how to read their own JSON.
func (d *decoder) byItself(v *value, dst reflect.Value) {
	if v.form == formNumber && !jsonNumber.MatchString(v.text) {
		d.wrong(v, "is not a plain number")
		return
	}
	if err := json.Unmarshal(v.appendJSON(nil), dst.Addr().Interface()); err != nil {
		d.wrong(v, "cannot be read as %s", dst.Type())
	}
}

var specialTypes = map[reflect.Type]func(d *decoder, v *value, dst reflect.Value){
	reflect.TypeFor[resource.Quantity]():  (*decoder).quantity,
	reflect.TypeFor[intstr.IntOrString](): (*decoder).intOrString,
	reflect.TypeFor[metav1.Time]():        (*decoder).timestamp,
	reflect.TypeFor[metav1.MicroTime]():   (*decoder).byItself,
	reflect.TypeFor[metav1.Duration]():    (*decoder).byItself,
	reflect.TypeFor[metav1.FieldsV1]():    (*decoder).byItself,
	reflect.TypeFor[[]byte]():             (*decoder).bytes,
}

func (d *decoder) quantity(v *value, dst reflect.Value) {
	switch {
	case v.form != formText && v.form != formNumber:
		d.wrong(v, "must be a quantity such as 500m or 128Mi, not %s", v.form)
	case v.form == formNumber && !jsonNumber.MatchString(v.text):
		d.wrong(v, "must be a quantity such as 500m or 128Mi%s", meaning(v.text))
	default:
		q, err := resource.ParseQuantity(strings.TrimSpace(v.text))
		if err != nil {
			d.wrong(v, "must be a quantity such as 500m or 128Mi (got %q)", object.Shorten(v.text))
			return
		}
		dst.Set(reflect.ValueOf(q))
	}
}

func (d *decoder) intOrString(v *value, dst reflect.Value) {
	switch v.form {
	case formText:
		dst.Set(reflect.ValueOf(intstr.FromString(v.text)))
	case formNumber:
		var n int32
		d.integer(v, reflect.ValueOf(&n).Elem())
		dst.Set(reflect.ValueOf(intstr.FromInt32(n)))
	default:
		d.wrong(v, "must be a whole number or text, not %s", v.form)
	}
}

func (d *decoder) timestamp(v *value, dst reflect.Value) {
	t, err := time.Parse(time.RFC3339, v.text)
	if v.form != formText || err != nil {
		d.wrong(v, "must be a time such as 2026-11-21T12:00:00Z")
		return
	}
	dst.Set(reflect.ValueOf(metav1.NewTime(t.Local())))
}

func (d *decoder) bytes(v *value, dst reflect.Value) {
	if v.form != formText {
		d.wrong(v, "must be base64 text, not %s", v.form)
		return
	}
	data, err := base64.StdEncoding.DecodeString(v.text)
	if err != nil {
		d.wrong(v, "must be base64 text (plain text goes into stringData)")
		return
	}
	dst.SetBytes(data)
}

// structFields are the JSON fields of a struct.
type structFields struct {
	index map[string][]int
	names []string
}

var structCache sync.Map // of structFields by reflect.Type; only ever adds what is the same for every reader

func fieldsOf(t reflect.Type) structFields {
	if cached, ok := structCache.Load(t); ok {
		return cached.(structFields)
	}
	f := structFields{index: map[string][]int{}}
	f.collect(t, nil)
	structCache.Store(t, f)
	return f
}

func (f *structFields) collect(t reflect.Type, under []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(append([]int{}, under...), i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" || !field.IsExported():
		case name == "" && (field.Anonymous || strings.Contains(options, "inline")):
			f.collect(field.Type, index)
		case name != "":
			f.index[name] = index
			f.names = append(f.names, name)
		}
	}
}
