package load

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mainstay-cluster/mainstay/object"
)

// clusterFile is where the cluster's own settings stand.
const clusterFile = "mainstay.yaml"

// located is a declaration in the file that this tree has it in.
type located struct {
	*declaration
	path string // from the repository's root
	file string // from the tree's root
}

func (d located) problem(at position, field, format string, args ...any) object.Problem {
	return object.Problem{Path: d.path, Line: at.line, Column: at.col, Object: d.title(), Field: field, Message: fmt.Sprintf(format, args...)}
}

func (d located) title() string { return d.Kind.Kind + " " + d.id.shown() }

func (d located) before(other located) bool {
	return cmp.Or(cmp.Compare(d.path, other.path), cmp.Compare(d.Line, other.Line)) < 0
}

func (d located) place() string { return fmt.Sprintf("%s:%d", d.path, d.Line) }

// identity is what makes two declarations the same object.
type identity struct{ kind, namespace, name string }

func identityOf(kind object.Kind, obj object.Object) identity {
	id := identity{kind: kind.Kind, name: obj.GetName()}
	if kind.Namespaced {
		id.namespace = obj.GetNamespace()
	}
	return id
}

func (i identity) shown() string {
	if i.namespace == "" {
		return object.Shorten(i.name)
	}
	return object.Shorten(i.namespace) + "/" + object.Shorten(i.name)
}

// assemble puts the manifests of a tree together and checks what only shows in all of them.
func assemble(prefix string, walked *found, manifests []*manifest) (Set, []object.Problem) {
	problems := slices.Clone(walked.problems)
	var all []located
	lost := walked.lost
	for i, m := range manifests {
		if m == nil {
			continue // not read, which the one before it says
		}
		lost = lost || m.lost
		name := path.Join(prefix, walked.files[i].Path)
		for _, p := range m.problems {
			p.Path = name
			problems = append(problems, p)
		}
		for j := range m.declarations {
			all = append(all, located{declaration: &m.declarations[j], path: name, file: walked.files[i].Path})
		}
	}
	between := checkAll(all)
	if !lost {
		between.checkMissing(all)
	}
	problems = append(problems, between.problems...)
	if len(all) == 0 && len(problems) == 0 {
		problems = append(problems, nothing(prefix, len(walked.files)))
	}
	if len(problems) > 0 {
		return Set{}, sortProblems(problems)
	}
	return setOf(all, len(walked.files)), nil
}

// nothing is the problem of a tree without objects: a wrong --path must not read as the wish to delete everything.
func nothing(prefix string, files int) object.Problem {
	return object.Problem{Path: orDot(prefix), Message: fmt.Sprintf("0 objects found under %s (%d files ending in .yaml, .yml or .json): "+
		"check --path; if nothing is meant to run, say so with a %s that holds a Cluster", orDot(prefix), files, clusterFile)}
}

func setOf(all []located, files int) Set {
	set := Set{Files: files, Objects: make([]Object, len(all))}
	slices.SortFunc(all, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.id.namespace, b.id.namespace), strings.Compare(a.id.name, b.id.name))
	})
	for i, d := range all {
		set.Objects[i] = d.Object
		set.Objects[i].Path = d.path
		if c, ok := d.Object.Object.(*object.Cluster); ok {
			set.Cluster = c
		}
	}
	return set
}
