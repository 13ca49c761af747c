package api

import (
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
)

// form is how objects are written. All forms are JSON: clients that would rather have protobuf take it as well.
type form int

const (
	asObject   form = iota
	asTable         // rows of cells, as kubectl prints them
	asMetadata      // PartialObjectMetadata
)

const metaGroup = "meta.k8s.io"

// clause is one alternative of an Accept header.
type clause struct {
	media  string
	params map[string]string
}

func clauses(accept string) (list []clause) {
	for part := range strings.SplitSeq(accept, ",") {
		media, rest, _ := strings.Cut(part, ";")
		c := clause{media: strings.TrimSpace(media), params: map[string]string{}}
		for param := range strings.SplitSeq(rest, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			c.params[name] = value
		}
		list = append(list, c)
	}
	return list
}

func (c clause) isJSON() bool {
	return c.media == "application/json" || c.media == "application/*" || c.media == "*/*" || c.media == ""
}

// negotiate takes the first alternative that is JSON; if there is none, the client gets JSON all the same.
func negotiate(accept string) form {
	for _, c := range clauses(accept) {
		if !c.isJSON() {
			continue
		}
		as, named := c.params["as"]
		switch {
		case !named:
			return asObject
		case c.params["g"] != metaGroup || c.params["v"] != "v1":
		case as == "Table":
			return asTable
		case strings.HasPrefix(as, "PartialObjectMetadata"):
			return asMetadata
		}
	}
	return asObject
}

// encoder writes objects of one kind in one form.
type encoder struct {
	kind    object.Kind
	form    form
	include metav1.IncludeObjectPolicy // what of the object a Table's row carries
}

// visible is obj as readers may see it.
func visible(k object.Kind, obj object.Object) object.Object {
	if k.Redact != nil {
		return k.Redact(obj)
	}
	return obj
}

// one encodes one visible object.
func (e encoder) one(obj object.Object) ([]byte, error) {
	switch e.form {
	case asTable:
		return json.Marshal(e.table([]object.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}))
	case asMetadata:
		return json.Marshal(metadataOf(obj))
	}
	return json.Marshal(obj)
}

// bookmark encodes an object that says nothing but a version.
func (e encoder) bookmark(version string, annotations map[string]string) ([]byte, error) {
	obj := e.kind.New()
	obj.GetObjectKind().SetGroupVersionKind(e.kind.GroupVersionKind)
	obj.SetResourceVersion(version)
	obj.SetAnnotations(annotations)
	switch e.form {
	case asTable:
		table := e.table(nil, metav1.ListMeta{ResourceVersion: version})
		// The annotations travel in a row's metadata, where client-go's reflectors of Tables look.
		table.Rows = []metav1.TableRow{{Cells: make([]any, len(table.ColumnDefinitions)), Object: runtime.RawExtension{Object: metadataOf(obj)}}}
		return json.Marshal(table)
	case asMetadata:
		return json.Marshal(metadataOf(obj))
	}
	return json.Marshal(obj)
}

// table renders visible objects.
func (e encoder) table(objs []object.Object, meta metav1.ListMeta) *metav1.Table {
	table := kube.Table(e.kind, objs)
	table.TypeMeta = metav1.TypeMeta{Kind: "Table", APIVersion: metaGroup + "/v1"}
	table.ListMeta = meta
	for i := range table.Rows {
		switch e.include {
		case metav1.IncludeObject:
			table.Rows[i].Object = runtime.RawExtension{Object: objs[i]}
		case metav1.IncludeNone:
			table.Rows[i].Object = runtime.RawExtension{}
		default:
			table.Rows[i].Object = runtime.RawExtension{Object: metadataOf(objs[i])}
		}
	}
	return table
}

func metadataOf(obj object.Object) *metav1.PartialObjectMetadata {
	meta, ok := obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
	if !ok {
		panic(fmt.Sprintf("api: %T has no ObjectMeta", obj))
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metaGroup + "/v1"},
		ObjectMeta: *meta,
	}
}
