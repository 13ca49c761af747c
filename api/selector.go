package api

import (
	"fmt"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/object"
)

// filter chooses objects by namespace, name, labels and fields. Every scalar field can be selected by its path in JSON, more
// than Kubernetes allows; a field that does not exist is an error there and here.
type filter struct {
	namespace string
	labels    labels.Selector
	tests     []fieldTest
}

// fieldTest is one requirement of a field selector: index is how to reach the field, nil elements of it being "".
type fieldTest struct {
	index [][]int
	want  string
	not   bool
}

// aliases are field labels that Kubernetes names otherwise than by path.
var aliases = map[string]string{"source": "source.component"}

func newFilter(k object.Kind, namespace string, byLabel labels.Selector, byField fields.Selector) (filter, error) {
	f := filter{namespace: namespace, labels: byLabel}
	if f.labels == nil {
		f.labels = labels.Everything()
	}
	if byField == nil {
		return f, nil
	}
	t := reflect.TypeOf(k.New()).Elem()
	for _, r := range byField.Requirements() {
		index, ok := fieldIndex(t, r.Field)
		if !ok {
			return f, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s is no field of a %s that a selector can compare", r.Field, k.Kind))
		}
		f.tests = append(f.tests, fieldTest{index, r.Value, r.Operator == "!="})
	}
	return f, nil
}

// matches reports whether an object is chosen. It is asked about what a reader may see, so that nothing can be guessed.
func (f filter) matches(obj object.Object) bool {
	if f.namespace != "" && obj.GetNamespace() != f.namespace || !f.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	for _, t := range f.tests {
		if (fieldValue(obj, t.index) == t.want) == t.not {
			return false
		}
	}
	return true
}

// everything reports whether nothing is left out.
func (f filter) everything() bool { return len(f.tests) == 0 && f.labels.Empty() }

// fieldIndex resolves a path like spec.nodeName to a scalar field.
func fieldIndex(t reflect.Type, path string) (index [][]int, ok bool) {
	if alias, ok := aliases[path]; ok {
		path = alias
	}
	for name := range strings.SplitSeq(path, ".") {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return nil, false
		}
		found := false
		for _, f := range jsonFields(t) {
			if f.name == name {
				index, t, found = append(index, f.index), f.typ, true
				break
			}
		}
		if !found {
			return nil, false
		}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		return index, true
	}
	return nil, false
}

func fieldValue(obj object.Object, index [][]int) string {
	v := reflect.ValueOf(obj)
	for _, step := range index {
		if v = reflect.Indirect(v); !v.IsValid() {
			return ""
		}
		v = v.FieldByIndex(step)
	}
	if v = reflect.Indirect(v); !v.IsValid() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}
