package proxy

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// program turns wants into the operations of one transaction.
type program struct {
	tx *knftables.Transaction
	// batch is how many elements one command adds: with a command for each, nft takes twice the time for very many.
	batch int
}

// whole replaces all that is in the table by w, and keeps the clients of chains that stay. chains and sets are those that
// are there now.
func (p program) whole(w wants, c Config, chains, sets []string) {
	p.tx.Add(&knftables.Table{Comment: knftables.PtrTo("Mainstay's Services")})
	for _, m := range tableMaps() {
		p.tx.Add(m)
		p.tx.Flush(m)
	}
	for _, s := range tableSets() {
		p.tx.Add(s)
		p.tx.Flush(s)
	}
	for _, name := range chains {
		p.tx.Flush(&knftables.Chain{Name: name})
	}
	wanted := fixedChains(c.Services)
	for _, h := range hooks {
		p.tx.Add(&knftables.Chain{Name: h.name, Type: &h.kind, Hook: &h.at, Priority: &h.priority})
	}
	for name, c := range w.chains {
		wanted[name] = c.rules
	}
	names := slices.Sorted(maps.Keys(wanted))
	for _, name := range names {
		if !slices.ContainsFunc(hooks, func(h hook) bool { return h.name == name }) {
			p.tx.Add(&knftables.Chain{Name: name})
		}
	}
	p.addClients(w.chains)
	for _, name := range names {
		p.addRules(name, wanted[name])
	}
	p.sweep(w, wanted, chains, sets)
	if c.Pods.IsValid() {
		p.tx.Add(&knftables.Element{Set: setPods, Key: []string{c.Pods.Masked().String()}})
	}
	p.add(w.elements)
}

// sweep deletes chains, which are empty by now, and clients of chains that nobody wants.
func (p program) sweep(w wants, wanted map[string][]string, chains, sets []string) {
	for _, name := range chains {
		if _, ok := wanted[name]; !ok {
			p.tx.Delete(&knftables.Chain{Name: name})
		}
	}
	for _, name := range sets {
		fixed := slices.ContainsFunc(tableSets(), func(s *knftables.Set) bool { return s.Name == name })
		if w.chains[name].clients == 0 && !fixed {
			p.tx.Delete(&knftables.Set{Name: name})
		}
	}
}

// change brings the table from old to new, which are about the same few Services. have are the shared chains that exist;
// they are never removed, and those that are added are put down there. It tells whether any rule changes.
func (p program) change(old, new wants, have map[string]bool) (rules bool) {
	added := map[string]chain{}
	for name, c := range new.chains {
		before, known := old.chains[name]
		switch {
		case have[name], known && slices.Equal(before.rules, c.rules):
		case known:
			p.tx.Flush(&knftables.Chain{Name: name})
			added[name] = chain{rules: c.rules}
		default:
			added[name] = c
		}
		if shared(name) {
			have[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(added))
	for _, name := range names {
		p.tx.Add(&knftables.Chain{Name: name})
	}
	p.addClients(added)
	for _, name := range names {
		p.addRules(name, added[name].rules)
	}
	p.elements(old.elements, new.elements)
	return p.removeChains(old, new) || len(added) > 0
}

// removeChains comes last: nothing leads to them any more. It tells whether there were any.
func (p program) removeChains(old, new wants) bool {
	var gone []string
	for name := range old.chains {
		if _, ok := new.chains[name]; !ok && !shared(name) {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		p.tx.Flush(&knftables.Chain{Name: name})
	}
	for _, name := range gone {
		p.tx.Delete(&knftables.Chain{Name: name})
		if old.chains[name].clients > 0 {
			p.tx.Delete(&knftables.Set{Name: name})
		}
	}
	return len(gone) > 0
}

// shared tells whether a chain belongs to no Service.
func shared(chain string) bool { return strings.HasPrefix(chain, spreadPrefix) }

// elements deletes what is not wanted any more, then adds what is new: an element whose value changed is both.
func (p program) elements(old, new []element) {
	before, after := setOf(old), setOf(new)
	deleted := map[element]bool{}
	for _, e := range old {
		if !after[e] && !deleted[e] {
			deleted[e] = true
			p.tx.Delete(e.object())
		}
	}
	p.add(slices.DeleteFunc(slices.Clone(new), func(e element) bool { return before[e] }))
}

func setOf(elements []element) map[element]bool {
	set := make(map[element]bool, len(elements))
	for _, e := range elements {
		set[e] = true
	}
	return set
}

func (p program) add(elements []element) {
	slices.SortStableFunc(elements, func(a, b element) int { return strings.Compare(a.set, b.set) })
	for len(elements) > 0 {
		n := 1
		for n < min(p.batch, len(elements)) && elements[n].set == elements[0].set {
			n++
		}
		p.tx.Add(joined(elements[:n]))
		elements = elements[n:]
	}
}

// joined is several elements of one map or set as one object, which knftables writes as they are.
func joined(elements []element) *knftables.Element {
	last := elements[len(elements)-1].object()
	if len(elements) == 1 {
		return last
	}
	var text strings.Builder
	for i, e := range elements {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(e.key)
		if e.value != "" && i < len(elements)-1 {
			text.WriteString(" : ")
			text.WriteString(e.value)
		}
	}
	last.Key = []string{text.String()}
	return last
}

func (e element) object() *knftables.Element {
	if e.value == "" {
		return &knftables.Element{Set: e.set, Key: strings.Split(e.key, " . ")}
	}
	return &knftables.Element{Map: e.set, Key: strings.Split(e.key, " . "), Value: strings.Split(e.value, " . ")}
}

func (p program) addClients(chains map[string]chain) {
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		if seconds := chains[name].clients; seconds > 0 {
			p.tx.Add(&knftables.Set{Name: name, Type: "ipv4_addr", Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag},
				Timeout: knftables.PtrTo(time.Duration(seconds) * time.Second)})
		}
	}
}

func (p program) addRules(chain string, rules []string) {
	for _, rule := range rules {
		p.tx.Add(&knftables.Rule{Chain: chain, Rule: rule})
	}
}
