// Package load turns a tree of manifests into validated objects, or into the list of everything that is wrong with it.
// It reads trees where they are (a commit's object database, a directory, an upload), checks out nothing, follows no link,
// and never fails on content: only a Tree that cannot be read is an error. Start at Loader.Load.
package load

import (
	"context"
	"sync/atomic"

	"github.com/mainstay-cluster/mainstay/object"
)

// Set is what one tree declares. Everything in it is shared with later loads and must not be modified.
type Set struct {
	Objects []Object        // by the order of object.Kinds, then namespace, then name; a Cluster among them
	Cluster *object.Cluster // from mainstay.yaml, with defaults; nil if the tree has none
	Files   int             // manifests read
}

// Object is one declared object and where it stands.
type Object struct {
	Object object.Object // with TypeMeta, namespace and all defaults
	Kind   object.Kind
	// Declared is the object as the manifest names it, as JSON with sorted keys: before defaults, with anchors and merge keys
	// resolved, the namespace filled in, and a Secret's stringData folded into data. Equal content has equal bytes.
	Declared []byte
	Path     string // of the file, from the repository's root
	Line     int    // where the object begins, from 1

	at   position
	file *source // shared by the objects of one file
}

// source is a file as it was parsed, kept to find the place of a field again when a plan has a problem with it.
type source struct {
	text  []byte
	parse func(text []byte, p *problems) []*value
}

// Position is where the manifest names a field, such as spec.selector, from 1; if it does not, where it would stand.
func (o Object) Position(field string) (line, column int) {
	at := o.at
	var p problems
	for _, v := range o.file.parse(o.file.text, &p) {
		for _, candidate := range append([]*value{v}, itemsOf(v)...) {
			if candidate.position == o.at {
				_, at, _ = candidate.place(field)
			}
		}
	}
	return at.line, at.col
}

// itemsOf are the objects of a kind: List.
func itemsOf(v *value) []*value {
	if items := v.get("items"); isList(v) && items != nil {
		return items.items
	}
	return nil
}

// Loader loads trees and remembers what it has parsed, so that the next commit costs what it changed. The zero value is
// ready. It may be used concurrently.
type Loader struct {
	cache          cache
	dirs           dirCache
	parsed, reused atomic.Int64
}

// Stats counts what a Loader has done since it was made.
type Stats struct {
	Parsed int64 // files decoded
	Reused int64 // files whose content was known already
}

// Stats returns the counts so far.
func (l *Loader) Stats() Stats { return Stats{Parsed: l.parsed.Load(), Reused: l.reused.Load()} }

// Load reads all of tree. The error says that the tree could not be read: nothing is known then. Problems say that it was read and
// must be rejected: all of them, sorted by path, line and column. Set is meaningful only without either. A tree
// without a single object is a problem: a repository that is meant to be empty says so by a Cluster in mainstay.yaml.
func (l *Loader) Load(ctx context.Context, tree Tree) (Set, []object.Problem, error) {
	found, err := l.walk(ctx, tree)
	if err != nil {
		return Set{}, nil, err
	}
	manifests, err := l.parseAll(ctx, tree, found.files)
	if err != nil {
		return Set{}, nil, err
	}
	set, problems := assemble(tree.Prefix(), found, manifests)
	return set, problems, nil
}
