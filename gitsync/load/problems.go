package load

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/mainstay-cluster/mainstay/object"
)

// problems collects what is wrong with one file, up to a bound.
type problems struct {
	list    []object.Problem
	omitted int
	lost    bool // a part of the file could not be read, so what it declares is not known
}

func (p *problems) add(problem object.Problem) {
	if len(p.list) >= maxFileProblems {
		p.omitted++
		return
	}
	p.list = append(p.list, problem)
}

// full reports whether more problems would only be counted: then their places need not be looked for.
func (p *problems) full() bool { return len(p.list) >= maxFileProblems }

func (p *problems) at(pos position, format string, args ...any) {
	p.add(object.Problem{Line: pos.line, Column: pos.col, Message: fmt.Sprintf(format, args...)})
}

// lose is at for a problem that hides what else the file declares.
func (p *problems) lose(pos position, format string, args ...any) {
	p.lost = true
	p.at(pos, format, args...)
}

// done returns what was collected.
func (p *problems) done() []object.Problem {
	if p.omitted > 0 {
		p.list = append(p.list, object.Problem{Message: fmt.Sprintf("%d more problems; only the first %d of a file are shown", p.omitted, maxFileProblems)})
		p.omitted = 0
	}
	return p.list
}

// sortProblems orders problems by where they stand, and drops what is said twice of one field.
func sortProblems(list []object.Problem) []object.Problem {
	slices.SortStableFunc(list, func(a, b object.Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(list)
}
