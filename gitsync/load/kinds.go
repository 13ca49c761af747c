package load

import (
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
)

// kind finds what kind an object is of, or says why it is none of ours.
func (r *reader) kind(v *value) (object.Kind, bool) {
	version, kindName := textOf(v.get("apiVersion")), textOf(v.get("kind"))
	if version == "" || kindName == "" {
		r.problems.at(v.position, "%s", notManifest(version, kindName))
		return object.Kind{}, false
	}
	at := v.get("kind").position
	gv, err := schema.ParseGroupVersion(version)
	if err != nil {
		r.problems.at(v.get("apiVersion").position, "apiVersion %q is not of the form group/version", object.Shorten(version))
		return object.Kind{}, false
	}
	kind, known := object.ByGVK(gv.WithKind(kindName))
	switch {
	case !known:
		if same, ok := sameName(kindName); ok {
			at = v.get("apiVersion").position
			if same.Kind != kindName {
				at = v.get("kind").position
			}
			r.problems.at(at, "%s of apiVersion %s is not known: want apiVersion: %s and kind: %s", object.Shorten(kindName), object.Shorten(version), same.GroupVersion(), same.Kind)
			return object.Kind{}, false
		}
		r.problems.at(at, "kind %s (%s) is not supported; supported are %s", object.Shorten(kindName), object.Shorten(version), supportedKinds())
	case !kind.Declarable:
		r.problems.at(at, "%s objects are made by Mainstay, not declared: remove this one", kind.Kind)
	default:
		return kind, true
	}
	return object.Kind{}, false
}

func textOf(v *value) string {
	if v == nil || v.form != formText {
		return ""
	}
	return v.text
}

func notManifest(version, kind string) string {
	const advice = "; if the file is not a manifest, list it in .mainstayignore"
	switch {
	case version == "" && kind == "":
		return "apiVersion and kind are missing" + advice
	case version == "":
		return fmt.Sprintf("apiVersion is missing (kind is %s)", object.Shorten(kind)) + advice
	}
	return fmt.Sprintf("kind is missing (apiVersion is %s)", object.Shorten(version)) + advice
}

// sameName finds a kind by its name in any case, whatever its group.
func sameName(name string) (object.Kind, bool) {
	for _, k := range object.Kinds() {
		if k.Declarable && strings.EqualFold(k.Kind, name) {
			return k, true
		}
	}
	return object.Kind{}, false
}

// ranks are the places of kinds in object.Kinds.
var ranks = sync.OnceValue(func() map[schema.GroupVersionKind]int {
	m := make(map[schema.GroupVersionKind]int)
	for i, k := range object.Kinds() {
		m[k.GroupVersionKind] = i
	}
	return m
})

func supportedKinds() string {
	var names []string
	for _, k := range object.Kinds() {
		if k.Declarable {
			names = append(names, k.Kind)
		}
	}
	return strings.Join(names, ", ")
}
