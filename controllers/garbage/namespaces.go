package garbage

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// namespaces deletes everything in namespaces that do not exist. The repository's own objects there go with the commit
// that removes the namespace; this is for what controllers made of them.
func namespaces() engine.Controller {
	sources := []engine.Source{
		engine.OnDelete(func(_ state.Reader, ns *corev1.Namespace, add func(state.Key)) { add(state.KeyOf(ns)) }),
		engine.EachMany(func(r state.Reader, _ *object.Cluster, add func(state.Key)) {
			for pod := range state.ListBy(r, tables.PodsByOwner, "") { // such as nodes reported before the first revision
				addMissing(r, pod, add)
			}
		}),
	}
	for _, kind := range object.Kinds() {
		if kind.Namespaced {
			sources = append(sources, engine.EachKind(kind, addMissing))
		}
	}
	return engine.Controller{Name: "garbage-namespaces", Workers: 1, Sources: sources, Reconcile: emptyNamespace}
}

func addMissing(r state.Reader, o object.Object, add func(state.Key)) {
	if key := (state.Key{Name: o.GetNamespace()}); missing(r, key) {
		add(key)
	}
}

// missing says whether a namespace does not exist. The cluster's own always do. The Sources of cluster-scoped objects are in
// none at all, which is not one that is missing.
func missing(r state.Reader, key state.Key) bool {
	if key.Name == "" || object.IsOwnNamespace(key.Name) {
		return false
	}
	_, ok := state.Get[*corev1.Namespace](r, key)
	return !ok
}

func emptyNamespace(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
	if !missing(tx, key) || !activated(tx) {
		return 0, nil
	}
	for _, kind := range object.Kinds() {
		if !kind.Namespaced {
			continue
		}
		var doomed []object.Object
		for o := range state.ListKind(tx, kind, key.Name) {
			doomed = append(doomed, o)
		}
		for _, o := range doomed {
			if tx.Writes() >= burst {
				return engine.Soon, nil
			}
			if pod, ok := o.(*corev1.Pod); ok {
				podcontrol.Delete(tx, pod, now)
				continue
			}
			tx.Delete(o)
		}
	}
	return 0, nil
}
