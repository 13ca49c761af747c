// Package object names the kinds Mainstay knows: their Go types, scopes, short names and whether a repository may declare
// them. It holds no behaviour of any kind; object/kube adds Kubernetes' own defaults, validation and columns. Start at Kinds.
package object

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is what Mainstay stores; every k8s.io/api type satisfies it. Once stored it is never modified.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind describes one kind of object. Kinds are constants of the program: nothing registers one at run time.
type Kind struct {
	schema.GroupVersionKind
	Resource   string   // plural and lower case, as in API paths
	ShortNames []string // what kubectl accepts instead of Resource
	Categories []string // "all" puts a kind into `kubectl get all`
	Namespaced bool
	Declarable bool                    // a repository may contain it
	New        func() Object           // an empty object
	Singleton  bool                    // a cluster has one object of it, always, and the name is the cluster's own
	Redact     func(obj Object) Object // a copy without what readers may not see; nil where everything may be seen
	Since      int                     // the format level a cluster must have reached before such an object is written; 0: from the first
	Keep       func(obj Object) bool   // the object outlives its declaration, and only what that said of it goes; nil where none does
}

// GroupResource is how Kubernetes' error messages name the kind.
func (k Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.Resource}
}

// Singular is the kind's name in lower case, as kubectl accepts it.
func (k Kind) Singular() string { return lower(k.Kind) }
