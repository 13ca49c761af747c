package load

import (
	"encoding/base64"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
)

// declaration is one object of a file with what is needed to check it against the others.
type declaration struct {
	Object // Path is empty: the same content may stand in several files
	id     identity
	rank   int // of its kind in object.Kinds
	facts  facts
}

// manifest is one parsed file. It is shared by all loads that meet the same content.
type manifest struct {
	declarations []declaration
	problems     []object.Problem // without a Path
	lost         bool             // something in it could not be read
	size         int
}

// reader turns the documents of one file into declarations.
type reader struct {
	file     *source
	problems problems
	found    []declaration
}

// document reads one document, or the items of a List.
func (r *reader) document(v *value) {
	if v.form != formObject {
		r.problems.lose(v.position, "document is not an object with apiVersion and kind, but %s", v.form)
		return
	}
	if v.get("sops") != nil {
		r.problems.lose(v.position, "is encrypted with SOPS: encrypted files are not carried out by this version of Mainstay")
		return
	}
	if isList(v) {
		r.list(v)
		return
	}
	r.object(v)
}

func isList(v *value) bool {
	version, kind := v.get("apiVersion"), v.get("kind")
	return version != nil && kind != nil && version.text == "v1" && kind.text == "List"
}

// list reads the items of a kind: List as if each were a document.
func (r *reader) list(v *value) {
	for i, k := range v.keys {
		switch k.name {
		case "apiVersion", "kind", "items":
		case "metadata":
			r.listMetadata(v.items[i])
		default:
			r.problems.at(k.position, "%s", unknownField(k.name, []string{"items"}))
		}
	}
	items := v.get("items")
	switch {
	case items == nil || items.form == formNull:
		return
	case items.form != formList:
		r.problems.lose(items.position, "items must be a list, not %s", items.form)
		return
	}
	for _, item := range items.items {
		switch {
		case item.form != formObject:
			r.problems.lose(item.position, "item is not an object with apiVersion and kind, but %s", item.form)
		case isList(item):
			r.problems.lose(item.position, "a List inside of a List: put its items into the outer one")
		default:
			r.object(item)
		}
	}
}

// listMetadata lets the empty fields pass that kubectl writes.
func (r *reader) listMetadata(v *value) {
	for i, k := range v.keys {
		if item := v.items[i]; item.form != formNull && (item.form != formText || item.text != "") {
			r.problems.at(k.position, "a List has no metadata of its own: remove %s", object.Shorten(k.name))
		}
	}
}

// object reads one object: decode, complete, check what is carried out, default, validate.
func (r *reader) object(v *value) {
	kind, ok := r.kind(v)
	if !ok {
		r.problems.lost = true
		return
	}
	obj := kind.New()
	var wrong []string
	d := decoder{report: func(at position, field, message string) {
		wrong = append(wrong, field)
		r.problems.add(object.Problem{Line: at.line, Column: at.col, Object: title(kind, v), Field: field, Message: message})
	}}
	d.decode(v, reflect.ValueOf(obj).Elem())
	complete(kind, obj, v)
	if obj.GetName() == "" && slices.Contains(wrong, "metadata.name") {
		r.problems.lost = true
		return
	}
	r.check(kind, obj, v, wrong)
	r.found = append(r.found, declaration{
		Object: Object{Object: obj, Kind: kind, Declared: v.appendJSON(nil), Line: v.line, at: v.position, file: r.file},
		id:     identityOf(kind, obj),
		rank:   ranks()[kind.GroupVersionKind],
		facts:  factsOf(obj, v),
	})
}

// check reports what is not carried out and what Kubernetes would refuse, leaving out what only follows from fields that
// could not be decoded.
func (r *reader) check(kind object.Kind, obj object.Object, v *value, wrong []string) {
	unsupported := withoutFields(kube.Unsupported(kind, v.raw().(map[string]any)), wrong)
	for _, err := range unsupported {
		r.fieldProblem(kind, v, err)
		wrong = append(wrong, err.Field)
	}
	kube.Default(obj)
	for _, err := range withoutFields(kube.Validate(obj), wrong) {
		r.fieldProblem(kind, v, err)
	}
	settle(obj)
}

// settle makes obj fit to be shared: a Quantity behind a pointer keeps its text when it is first asked for it, which
// would be a write by a reader.
func settle(obj object.Object) {
	if sized, ok := obj.(interface{ Size() int }); ok {
		sized.Size()
	}
}

// fieldProblem finds the place of a validation error. What is missing is missed where it would belong.
func (r *reader) fieldProblem(kind object.Kind, v *value, err *field.Error) {
	if r.problems.full() {
		r.problems.omitted++
		return
	}
	at, pos, complete := v.place(err.Field)
	bad, isText := err.BadValue.(string)
	switch {
	case err.Type == field.ErrorTypeForbidden || err.Type == field.ErrorTypeRequired:
	case isText && keyOrValue(at, bad) != at.position:
		pos = keyOrValue(at, bad)
	case complete:
		pos = at.position
	}
	r.problems.add(object.Problem{Line: pos.line, Column: pos.col, Object: title(kind, v), Field: err.Field, Message: kube.Message(kind.Kind, err)})
}

// keyOrValue finds what exactly is wrong where an error names only the map, such as labels, or only the list.
func keyOrValue(v *value, bad string) position {
	for i, item := range v.items {
		switch {
		case v.form == formObject && v.keys[i].name == bad:
			return v.keys[i].position
		case item.form == formText && item.text == bad:
			return item.position
		case v.form == formList && item.form == formObject:
			if at := keyOrValue(item, bad); at != item.position {
				return at
			}
		}
	}
	return v.position
}

// withoutFields drops errors at, above or below fields that have been reported already; one of a missing field is dropped
// if a field beside it looks like the same one misspelt.
func withoutFields(errs field.ErrorList, reported []string) field.ErrorList {
	if len(reported) == 0 {
		return errs
	}
	reported = reported[:min(len(reported), maxFileProblems)] // no more are shown
	var left field.ErrorList
	for _, err := range errs {
		follows := slices.ContainsFunc(reported, func(f string) bool {
			return within(err.Field, f) || within(f, err.Field) || err.Type == field.ErrorTypeRequired && misspells(f, err.Field)
		})
		if !follows {
			left = append(left, err)
		}
	}
	return left
}

// within reports whether a field is another or stands below it.
func within(field, above string) bool {
	rest, ok := strings.CutPrefix(field, above)
	return ok && (rest == "" || above == "" || rest[0] == '.' || rest[0] == '[')
}

func misspells(field, wanted string) bool {
	i, j := strings.LastIndexByte(field, '.')+1, strings.LastIndexByte(wanted, '.')+1
	return field[:i] == wanted[:j] && closest(field[i:], []string{wanted[j:]}) != ""
}

// complete fills in what a manifest may leave to its place: the namespace, and Kubernetes' way of writing Secrets as text. It does
// so in v too, since v is what becomes Declared.
func complete(kind object.Kind, obj object.Object, v *value) {
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	if kind.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace(corev1.NamespaceDefault)
		if meta := v.get("metadata"); meta != nil && meta.form == formObject {
			meta = cloneOf(meta)
			meta.set("namespace", &value{form: formText, text: corev1.NamespaceDefault, position: meta.position})
			v.set("metadata", meta)
		}
	}
	if secret, ok := obj.(*corev1.Secret); ok {
		foldStringData(secret, v)
	}
}

func foldStringData(secret *corev1.Secret, v *value) {
	if len(secret.StringData) == 0 {
		return
	}
	data := &value{form: formObject, position: v.get("stringData").position}
	if have := v.get("data"); have != nil && have.form == formObject {
		data = cloneOf(have)
	}
	if secret.Data == nil {
		secret.Data = make(map[string][]byte, len(secret.StringData))
	}
	index := make(map[string]int, len(data.keys))
	for i, k := range data.keys {
		index[k.name] = i
	}
	texts := v.get("stringData")
	for i, k := range texts.keys {
		secret.Data[k.name] = []byte(secret.StringData[k.name])
		encoded := base64.StdEncoding.EncodeToString([]byte(secret.StringData[k.name]))
		item := &value{form: formText, text: encoded, position: texts.items[i].position}
		if at, has := index[k.name]; has {
			data.items[at] = item
			continue
		}
		data.keys, data.items = append(data.keys, k), append(data.items, item)
	}
	secret.StringData = nil
	v.set("data", data)
	v.remove("stringData")
}

// cloneOf copies an object's list of keys: the object itself may be shared through an alias.
func cloneOf(v *value) *value {
	c := *v
	c.keys, c.items = slices.Clone(v.keys), slices.Clone(v.items)
	return &c
}

func (v *value) remove(name string) {
	i := slices.IndexFunc(v.keys, func(k key) bool { return k.name == name })
	v.keys, v.items = slices.Delete(v.keys, i, i+1), slices.Delete(v.items, i, i+1)
}

// title names an object as far as its manifest does.
func title(kind object.Kind, v *value) string {
	meta := v.get("metadata")
	if textOf(meta.get("name")) == "" {
		return kind.Kind
	}
	name, namespace := textOf(meta.get("name")), textOf(meta.get("namespace"))
	if kind.Namespaced && namespace == "" {
		namespace = corev1.NamespaceDefault
	}
	if kind.Namespaced {
		return kind.Kind + " " + object.Shorten(namespace) + "/" + object.Shorten(name)
	}
	return kind.Kind + " " + object.Shorten(name)
}
