package policy

import (
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

// ruleset is all that stands in the table. The zero value: there is no table. It is never changed once it is rendered.
type ruleset struct {
	chains map[string]chain
	sets   map[string]*set
}

// chain is one chain; those with a hook are called by the kernel.
type chain struct {
	comment string
	hook    knftables.BaseChainHook
	rules   []string
}

// set is a set, or a map if its elements have values.
type set struct {
	kind     string // as nftables has it: types of key and value
	interval bool
	elements map[string]string
}

func (s *set) isMap() bool { return strings.Contains(s.kind, " : ") }

// newRuleset has all but what policies add.
func newRuleset() *ruleset {
	const (
		answers  = "ct state established,related accept"
		hairpins = "ip saddr . ip daddr @" + itself + " accept"
		toNames  = "ip daddr @" + names + " meta l4proto { tcp, udp } th dport 53 accept"
	)
	return &ruleset{
		chains: map[string]chain{
			egress:  {hook: knftables.ForwardHook, rules: []string{answers, hairpins, toNames, "ip saddr vmap @" + egress}},
			ingress: {hook: knftables.ForwardHook, rules: []string{answers, hairpins, "ip daddr vmap @" + ingress}},
			input:   {hook: knftables.InputHook, rules: []string{answers, toNames, "ip saddr vmap @" + egress}},
		},
		sets: map[string]*set{
			egress:  {kind: "ipv4_addr : verdict", elements: map[string]string{}},
			ingress: {kind: "ipv4_addr : verdict", elements: map[string]string{}},
			itself:  {kind: "ipv4_addr . ipv4_addr", elements: map[string]string{}},
			pods:    {kind: "ipv4_addr", interval: true},
			names:   {kind: "ipv4_addr"},
		},
	}
}

// with is r and all that other has and r has not. It is r if that is nothing.
func (r *ruleset) with(other *ruleset) *ruleset {
	both := &ruleset{chains: maps.Clone(other.chains), sets: maps.Clone(other.sets)}
	if len(r.chains) == 0 || len(both.chains) == 0 {
		return r
	}
	maps.Copy(both.chains, r.chains)
	maps.Copy(both.sets, r.sets)
	if len(both.chains) == len(r.chains) {
		return r // and hence no sets that matter
	}
	return both
}

// remove takes away the table, whatever stands in it.
func remove(tx *knftables.Transaction) {
	tx.Add(&knftables.Table{}) // deleting what is not there would fail
	tx.Delete(&knftables.Table{})
}

// update makes want of have. What is referred to comes before, and goes after, what refers to it.
func update(tx *knftables.Transaction, have, want *ruleset) {
	switch {
	case len(want.chains) == 0 && len(have.chains) > 0:
		tx.Delete(&knftables.Table{})
		return
	case len(want.chains) == 0:
		return
	case len(have.chains) == 0:
		tx.Add(&knftables.Table{Comment: knftables.PtrTo("Mainstay's NetworkPolicies")})
	}
	addSets(tx, have, want)
	writeChains(tx, have, want)
	for _, name := range slices.Sorted(maps.Keys(want.sets)) {
		if want.sets[name].isMap() {
			updateElements(tx, name, have.sets[name], want.sets[name])
		}
	}
	removeGone(tx, have, want)
}

// addSets makes and fills sets, which rules refer to, and makes maps, which refer to chains.
func addSets(tx *knftables.Transaction, have, want *ruleset) {
	for _, name := range slices.Sorted(maps.Keys(want.sets)) {
		s := want.sets[name]
		if have.sets[name] == nil {
			addSet(tx, name, s)
		}
		if !s.isMap() {
			updateElements(tx, name, have.sets[name], s)
		}
	}
}

func addSet(tx *knftables.Transaction, name string, s *set) {
	if s.isMap() {
		tx.Add(&knftables.Map{Name: name, Type: s.kind})
		return
	}
	added := &knftables.Set{Name: name, Type: s.kind}
	if s.interval {
		added.Flags = []knftables.SetFlag{knftables.IntervalFlag}
	}
	tx.Add(added)
}

// updateElements first removes and then adds, for a map has one value for a key, and a range no other that overlaps it.
func updateElements(tx *knftables.Transaction, name string, have, want *set) {
	if have == want {
		return
	}
	if have == nil {
		have = &set{}
	}
	var gone, added []string
	for _, key := range slices.Sorted(maps.Keys(have.elements)) {
		if value, ok := want.elements[key]; !ok || value != have.elements[key] {
			gone = append(gone, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want.elements)) {
		if value, ok := have.elements[key]; !ok || value != want.elements[key] {
			added = append(added, key)
		}
	}
	for _, e := range elementsOf(name, have, gone) {
		tx.Delete(e)
	}
	for _, e := range elementsOf(name, want, added) {
		tx.Add(e)
	}
}

// elementsOf are those elements of s. All of a set go into one command, as nftables' own syntax lists them: five times as fast as
// a command each.
func elementsOf(name string, s *set, keys []string) []*knftables.Element {
	var out []*knftables.Element
	if s.isMap() {
		for _, key := range keys {
			out = append(out, &knftables.Element{Map: name, Key: []string{key}, Value: []string{s.elements[key]}})
		}
	} else if len(keys) > 0 {
		out = append(out, &knftables.Element{Set: name, Key: []string{strings.Join(keys, ", ")}})
	}
	return out
}

func writeChains(tx *knftables.Transaction, have, want *ruleset) {
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(want.chains)) {
		old, exists := have.chains[name]
		if exists && slices.Equal(old.rules, want.chains[name].rules) {
			continue
		}
		changed = append(changed, name)
		if exists {
			tx.Flush(&knftables.Chain{Name: name})
		} else {
			tx.Add(want.chains[name].object(name))
		}
	}
	for _, name := range changed {
		for _, rule := range want.chains[name].rules {
			tx.Add(&knftables.Rule{Chain: name, Rule: rule})
		}
	}
}

func (c chain) object(name string) *knftables.Chain {
	out := &knftables.Chain{Name: name}
	if c.comment != "" {
		out.Comment = knftables.PtrTo(c.comment[:min(len(c.comment), knftables.CommentLengthMax-1)])
	}
	if c.hook != "" {
		out.Type, out.Hook, out.Priority = knftables.PtrTo(knftables.FilterType), &c.hook, knftables.PtrTo(knftables.FilterPriority)
	}
	return out
}

func removeGone(tx *knftables.Transaction, have, want *ruleset) {
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(have.chains)) {
		if _, wanted := want.chains[name]; !wanted {
			gone = append(gone, name)
			tx.Flush(&knftables.Chain{Name: name})
		}
	}
	for _, name := range gone {
		tx.Delete(&knftables.Chain{Name: name})
	}
	for _, name := range slices.Sorted(maps.Keys(have.sets)) {
		if want.sets[name] == nil {
			tx.Delete(&knftables.Set{Name: name})
		}
	}
}
