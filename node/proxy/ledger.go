package proxy

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/nft"
)

func newLedger() *ledger {
	return &ledger{
		inputs: map[types.NamespacedName]input{}, owners: map[frontend]types.NamespacedName{},
		waiting: map[types.NamespacedName]bool{}, hairpins: map[element]int{}, shared: map[string]bool{}, elements: map[string]nft.Digest{},
	}
}

type named struct {
	name types.NamespacedName
	input
}

// inputsOf are the Services of these names as n has them; those that n does not have are empty.
func inputsOf(n *link.Network, names []types.NamespacedName) []named {
	list := make([]named, 0, len(names))
	for _, name := range names {
		list = append(list, named{name, input{n.Services[name], n.EndpointSlicesOf(name)}})
	}
	return list
}

func namesIn(n *link.Network) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(n.Services), compareNames)
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// turn puts down that these Services are programmed from now on. It returns their routes as they were and as they are to
// be. A frontend that another Service has stays with that one, and its second claimant waits.
func (l *ledger) turn(changed []named, node string) (old, wanted []route) {
	for _, s := range changed {
		before := l.inputs[s.name]
		for _, r := range routesOf(before.service, before.slices, node) {
			if l.owners[r.frontend] == s.name {
				old = append(old, r)
			}
		}
	}
	for _, r := range old {
		delete(l.owners, r.frontend)
	}
	for _, s := range changed {
		wanted = append(wanted, l.claim(s, node)...)
	}
	return old, wanted
}

func (l *ledger) claim(s named, node string) (mine []route) {
	delete(l.waiting, s.name)
	delete(l.inputs, s.name)
	if s.service != nil {
		l.inputs[s.name] = s.input
	}
	for _, r := range routesOf(s.service, s.slices, node) {
		if owner, taken := l.owners[r.frontend]; taken && owner != s.name {
			l.waiting[s.name] = true
			continue
		}
		l.owners[r.frontend] = s.name
		mine = append(mine, r)
	}
	return mine
}

// count completes what was and what is to be by what other Services hold too: a Pod behind several Services is one hairpin,
// and goes with the last of them.
func (l *ledger) count(old, wanted wants) (before, after wants) {
	was := map[element]int{}
	for _, e := range old.elements {
		if e.set == setHairpin {
			was[e] = l.hairpins[e]
		}
	}
	for _, e := range wanted.elements {
		if e.set == setHairpin {
			was[e] = l.hairpins[e]
		}
	}
	l.add(old.elements, -1)
	l.add(wanted.elements, 1)
	before, after = withoutHairpins(old), withoutHairpins(wanted)
	for e, count := range was {
		if count > 0 {
			before.elements = append(before.elements, e)
		}
		if l.hairpins[e] > 0 {
			after.elements = append(after.elements, e)
		} else {
			delete(l.hairpins, e)
		}
	}
	return before, after
}

func (l *ledger) add(elements []element, n int) {
	for _, e := range elements {
		if e.set == setHairpin {
			l.hairpins[e] += n
		}
	}
}

func withoutHairpins(w wants) wants {
	w.elements = slices.DeleteFunc(slices.Clone(w.elements), func(e element) bool { return e.set == setHairpin })
	return w
}

// tally notes what each map and set holds once old has become wanted.
func (l *ledger) tally(old, wanted []element) {
	before, after := setOf(old), setOf(wanted)
	for e := range before {
		if !after[e] {
			d := l.elements[e.set]
			d.Remove(e.raw())
			l.elements[e.set] = d
		}
	}
	for e := range after {
		if !before[e] {
			d := l.elements[e.set]
			d.Add(e.raw())
			l.elements[e.set] = d
		}
	}
}
