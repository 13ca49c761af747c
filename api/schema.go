package api

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
)

// schemas collects the OpenAPI schemas of Go types, by name.
type schemas struct{ defs jsonMap }

// leaves are types whose JSON differs from their Go shape.
var leaves = map[reflect.Type]jsonMap{
	reflect.TypeFor[metav1.Time]():          {"type": "string", "format": "date-time"},
	reflect.TypeFor[metav1.MicroTime]():     {"type": "string", "format": "date-time"},
	reflect.TypeFor[metav1.Duration]():      {"type": "string"},
	reflect.TypeFor[resource.Quantity]():    {"type": "string"},
	reflect.TypeFor[intstr.IntOrString]():   {"type": "string", "format": "int-or-string"},
	reflect.TypeFor[metav1.FieldsV1]():      {"type": "object"},
	reflect.TypeFor[runtime.RawExtension](): {"type": "object"},
	reflect.TypeFor[[]byte]():               {"type": "string", "format": "byte"},
}

// root adds a kind and all it refers to, and returns its name.
func (s schemas) root(k object.Kind) string {
	t := reflect.TypeOf(k.New()).Elem()
	name := s.add(t)
	s.defs[name].(jsonMap)["x-kubernetes-group-version-kind"] = []any{gvkMap(k)}
	return name
}

func (s schemas) add(t reflect.Type) string {
	name := schemaName(t)
	if _, known := s.defs[name]; known {
		return name
	}
	def := jsonMap{"type": "object"}
	s.defs[name] = def // before its fields, since types may be recursive
	docs := docsOf(t)
	if docs[""] != "" {
		def["description"] = docs[""]
	}
	properties, required := jsonMap{}, []string{}
	for _, f := range jsonFields(t) {
		property := s.of(f.typ)
		if ref, ok := property["$ref"]; ok {
			property = jsonMap{"allOf": []any{jsonMap{"$ref": ref}}}
		}
		if doc := docs[f.name]; doc != "" {
			property["description"] = doc
		}
		properties[f.name] = property
		if f.required {
			required = append(required, f.name)
		}
	}
	def["properties"] = properties
	if len(required) > 0 {
		slices.Sort(required)
		def["required"] = required
	}
	return name
}

// of is a new schema for a type, or a reference to one.
func (s schemas) of(t reflect.Type) jsonMap {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if leaf, ok := leaves[t]; ok {
		fresh := jsonMap{}
		for k, v := range leaf {
			fresh[k] = v
		}
		return fresh
	}
	switch t.Kind() {
	case reflect.Struct:
		return jsonMap{"$ref": schemaRef(s.add(t))}
	case reflect.Slice, reflect.Array:
		return jsonMap{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return jsonMap{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Bool:
		return jsonMap{"type": "boolean"}
	case reflect.Int64:
		return jsonMap{"type": "integer", "format": "int64"}
	case reflect.Int, reflect.Int32, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return jsonMap{"type": "integer", "format": "int32"}
	case reflect.Float32, reflect.Float64:
		return jsonMap{"type": "number"}
	}
	return jsonMap{"type": "string"}
}

// schemaName is Kubernetes' name for a type: io.k8s.api.core.v1.Pod.
func schemaName(t reflect.Type) string {
	host, path, _ := strings.Cut(t.PkgPath(), "/")
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "." + strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

// docsOf is what Kubernetes' generated code says of a type ("") and of its fields.
func docsOf(t reflect.Type) map[string]string {
	if documented, ok := reflect.New(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		return documented.SwaggerDoc()
	}
	return nil
}

// jsonField is one field of a struct as JSON has it; index finds it with reflect.Value.FieldByIndex.
type jsonField struct {
	name     string
	typ      reflect.Type
	index    []int
	required bool
}

// jsonFields lists the fields of a struct, those of embedded structs in place.
func jsonFields(t reflect.Type) (fields []jsonField) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "":
			embedded := f.Type
			for embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			for _, inner := range jsonFields(embedded) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
		case name != "":
			optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero") || f.Type.Kind() == reflect.Pointer
			fields = append(fields, jsonField{name, f.Type, []int{i}, !optional})
		}
	}
	return fields
}
