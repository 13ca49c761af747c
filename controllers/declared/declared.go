// Package declared makes anew what the repository declares and the store lacks: above all a Pod whose spec changed, once
// the one before it has stopped. It changes nothing that exists, but
// for stopping such a Pod when its successor can start. Start at Controller and Replacer.
package declared

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

const workers = 4

// Controller returns the controller. setDefaults gives an object the defaults that it had when it was declared.
func Controller(setDefaults func(object.Object)) engine.Controller {
	sources := []engine.Source{
		engine.Each(engine.Self[*object.Source]),
		engine.EachMany(func(r state.Reader, ns *corev1.Namespace, add func(state.Key)) {
			for source := range state.List[*object.Source](r, ns.Name) {
				add(state.KeyOf(source))
			}
		}),
	}
	for _, kind := range object.Kinds() {
		if restorable(kind) {
			sources = append(sources, engine.EachKind(kind, sourceOf(kind)))
		}
	}
	return engine.Controller{
		Name:    "declared",
		Workers: workers,
		Sources: sources,
		Reconcile: func(tx *state.Txn, key state.Key, _ time.Time) (time.Duration, error) {
			return 0, restore(tx, key, setDefaults)
		},
	}
}

// restorable says whether objects of a kind are made from their Source. What is always there is not.
func restorable(kind object.Kind) bool { return kind.Declarable && !kind.Singleton }

// sourceOf names the Source of an object that has just gone.
func sourceOf(kind object.Kind) engine.KeysOf[object.Object] {
	return func(r state.Reader, o object.Object, add func(state.Key)) {
		if _, there := state.GetKind(r, kind, state.KeyOf(o)); !there {
			add(state.Key{Namespace: o.GetNamespace(), Name: object.SourceName(kind, o.GetName())})
		}
	}
}

func restore(tx *state.Txn, key state.Key, setDefaults func(object.Object)) error {
	source, ok := state.Get[*object.Source](tx, key)
	if !ok {
		return nil
	}
	kind, ok := object.ByGVK(schema.FromAPIVersionAndKind(source.Spec.APIVersion, source.Spec.Kind))
	if !ok || !restorable(kind) {
		return nil
	}
	at := state.Key{Namespace: source.Namespace, Name: source.Spec.Name}
	if _, there := state.GetKind(tx, kind, at); there || !hasNamespace(tx, at.Namespace) {
		return nil
	}
	o := kind.New()
	if err := json.Unmarshal(source.Spec.Declared, o); err != nil {
		return fmt.Errorf("read the declaration of %s %s at %s:%d: %w", kind.Kind, at, source.Spec.Path, source.Spec.Line, err)
	}
	o.SetNamespace(at.Namespace)
	setDefaults(o)
	if pod, ok := o.(*corev1.Pod); ok {
		pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	}
	tx.Require(source) // A commit that no longer declares it may have come meanwhile.
	tx.Create(o)
	return nil
}

func hasNamespace(r state.Reader, namespace string) bool {
	if namespace == "" || object.IsOwnNamespace(namespace) {
		return true
	}
	_, ok := state.Get[*corev1.Namespace](r, state.Key{Name: namespace})
	return ok
}
