package api

import (
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// Trace says where an object comes from: the answer of GET /mainstay/v1/trace?kind=&namespace=&name=.
type Trace struct {
	// Commit, Author, Path and Line are those of the last object in Chain; they are empty if no repository declares it.
	Commit string `json:"commit,omitempty"`
	Author string `json:"author,omitempty"`
	Path   string `json:"path,omitempty"`
	Line   int    `json:"line,omitempty"`
	// Chain begins with the object and ends with the declared one that it exists for.
	Chain []TraceLink `json:"chain"`
}

// TraceLink is one object between an object and its declaration.
type TraceLink struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// maxChain bounds the way from an object to its declaration: owner references may form a circle.
const maxChain = 8

// declared reports whether a file says that the traced object should exist.
func (t Trace) declared() bool { return t.Path != "" }

// traceOf follows an object's controllers until one of them is declared.
func traceOf(view state.Reader, obj object.Object) (t Trace) {
	for len(t.Chain) < maxChain {
		k := object.KindOf(obj)
		t.Chain = append(t.Chain, TraceLink{k.Kind, obj.GetNamespace(), obj.GetName()})
		if src, ok := state.Get[*object.Source](view, state.Key{Namespace: obj.GetNamespace(), Name: object.SourceName(k, obj.GetName())}); ok {
			t.Commit, t.Author, t.Path, t.Line = src.Spec.Commit, src.Spec.Author, src.Spec.Path, src.Spec.Line
			return t
		}
		cause, ok := causeOf(view, obj)
		if !ok {
			return t
		}
		obj = cause
	}
	return t
}

// causeOf finds what an object exists for: its controller, the Service of an EndpointSlice, the subject of an Event.
func causeOf(view state.Reader, obj object.Object) (object.Object, bool) {
	switch o := obj.(type) {
	case *corev1.Event:
		ref := o.InvolvedObject
		return find(view, ref.APIVersion, ref.Kind, state.Key{Namespace: ref.Namespace, Name: ref.Name})
	case *discoveryv1.EndpointSlice:
		return find(view, "v1", "Service", state.Key{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]})
	}
	ref := metav1.GetControllerOf(obj)
	if ref == nil {
		return nil, false
	}
	return find(view, ref.APIVersion, ref.Kind, state.Key{Namespace: obj.GetNamespace(), Name: ref.Name})
}

func find(view state.Reader, apiVersion, kind string, key state.Key) (object.Object, bool) {
	k, ok := object.ByGVK(schema.FromAPIVersionAndKind(apiVersion, kind))
	if !ok || !state.Has(view, k) {
		return nil, false
	}
	if !k.Namespaced {
		key.Namespace = ""
	}
	return state.GetKind(view, k, key)
}

// trace serves GET /mainstay/v1/trace.
func (a *API) trace(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return methodNotAllowed("traces are only read")
	}
	query := r.URL.Query()
	kind, ok := object.ByName(query.Get("kind"))
	if !ok {
		return apierrors.NewBadRequest("kind " + query.Get("kind") + " is not known")
	}
	view, err := a.consistent(r.Context())
	if err != nil {
		return err
	}
	key := state.Key{Namespace: query.Get("namespace"), Name: query.Get("name")}
	if !kind.Namespaced {
		key.Namespace = ""
	}
	obj, ok := state.GetKind(view, kind, key)
	if !ok {
		return apierrors.NewNotFound(kind.GroupResource(), key.Name)
	}
	writeJSON(w, http.StatusOK, traceOf(view, obj))
	return nil
}
