// Package plan works out what must be written so that the cluster is what a repository declares: Compute compares, Apply
// writes, Diff shows. It is pure: it reads a snapshot, and writes only to the transaction it is given. It never decides when.
// Start at Compute.
package plan

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// Desired is one object as a repository declares it.
type Desired struct {
	Object   object.Object // with defaults; only read
	Kind     object.Kind
	Declared []byte // as the repository names it: JSON without defaults
	Path     string
	Line     int
	// Position finds where the manifest names a field, for problems; nil where nobody knows.
	Position func(field string) (line, column int)
}

// Rules are what an API server would do with an object; package object/kube has them.
type Rules struct {
	Default        func(obj object.Object)
	ValidateUpdate func(obj, old object.Object) field.ErrorList
	Message        func(kind string, err *field.Error) string
}

// Action is what a plan does to one declared object.
type Action string

// What can become of an object.
const (
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace" // a Pod's spec cannot change: it is stopped once the new images are on its node, and then made anew
	Delete  Action = "delete"
	Record  Action = "record" // only where it is declared, or how, changes; the object itself is as it should be
)

// Change is one step of a plan.
type Change struct {
	Action Action
	Kind   object.Kind
	Key    state.Key
	Before object.Object  // live; nil if there is none
	After  object.Object  // what it becomes; nil for Delete and Record
	Source *object.Source // what is known of the declaration from now on; nil if it goes or stays as it is
	Was    *object.Source // what was known before; nil if nothing was

	Undeclared bool // the declaration goes, though the object stays
}

// Plan is all that one commit changes, in the order in which it is written. Nothing in it may be modified.
type Plan struct {
	Changes []Change
	Counts  Counts
}

// Empty says whether applying the plan writes nothing.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 }
