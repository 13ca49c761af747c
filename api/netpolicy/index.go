package netpolicy

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/state"
)

// Index says which policies a change concerns. It must be told of every change of the three kinds after the state it was made
// from; kinds may be told of one after the other, as long as policies are resolved on a state that has all of it: whichever
// change comes last names what the others could not. One goroutine at a time may use it.
type Index struct {
	byNamespace map[string]map[state.Key]policy
	wide        map[state.Key]policy  // those that Pods of other namespaces concern too; they are in byNamespace as well
	namespaces  map[string]labels.Set // labels of those that are known
}

// NewIndex makes an index of what r holds.
func NewIndex(r state.Reader) *Index {
	x := &Index{byNamespace: map[string]map[state.Key]policy{}, wide: map[state.Key]policy{}, namespaces: map[string]labels.Set{}}
	for ns := range state.List[*corev1.Namespace](r, "") {
		x.namespaces[ns.Name] = namespaceLabels(ns.Name, ns)
	}
	for p := range state.List[*networkingv1.NetworkPolicy](r, "") {
		x.add(p)
	}
	return x
}

func (x *Index) add(p *networkingv1.NetworkPolicy) {
	key, parsed := state.KeyOf(p), parse(p)
	if x.byNamespace[key.Namespace] == nil {
		x.byNamespace[key.Namespace] = map[state.Key]policy{}
	}
	x.byNamespace[key.Namespace][key] = parsed
	delete(x.wide, key)
	if parsed.wide() {
		x.wide[key] = parsed
	}
}

// Policy notes a change of a policy and returns its key: Resolve it, or tell that it is gone. Old is nil for a new policy, now
// for one that was removed.
func (x *Index) Policy(old, now *networkingv1.NetworkPolicy) []state.Key {
	if now != nil {
		x.add(now)
		return []state.Key{state.KeyOf(now)}
	}
	key := state.KeyOf(old)
	delete(x.wide, key)
	delete(x.byNamespace[key.Namespace], key)
	if len(x.byNamespace[key.Namespace]) == 0 {
		delete(x.byNamespace, key.Namespace)
	}
	return []state.Key{key}
}

// Namespace notes a change of a Namespace and returns the policies whose peers it changes, in order. Old is nil for a new
// Namespace, now for one that was removed.
func (x *Index) Namespace(old, now *corev1.Namespace) []state.Key {
	var before, after labels.Set // nil selects nothing
	if old != nil {
		before = namespaceLabels(old.Name, old)
		delete(x.namespaces, old.Name)
	}
	if now != nil {
		after = namespaceLabels(now.Name, now)
		x.namespaces[now.Name] = after
	}
	if old != nil && now != nil && maps.Equal(before, after) {
		return nil
	}
	return keysOf(x.wide, func(p policy) bool { return p.looksInto(before) || p.looksInto(after) })
}

// Pod returns the policies that mean something else after a change of a Pod, in order. Old is nil for a new Pod, now for one
// that was removed.
func (x *Index) Pod(old, now *corev1.Pod) []state.Key {
	if same(old, now) {
		return nil
	}
	concerned := map[state.Key]policy{}
	for _, pod := range []*corev1.Pod{old, now} {
		if pod == nil || !counts(pod) {
			continue
		}
		namespace, known := x.namespaces[pod.Namespace]
		if !known {
			namespace = namespaceLabels(pod.Namespace, nil)
		}
		for _, policies := range []map[state.Key]policy{x.byNamespace[pod.Namespace], x.wide} {
			for key, p := range policies {
				if p.concerns(pod, namespace) {
					concerned[key] = p
				}
			}
		}
	}
	return keysOf(concerned, func(policy) bool { return true })
}

func keysOf(policies map[state.Key]policy, wanted func(policy) bool) []state.Key {
	var keys []state.Key
	for key, p := range policies {
		if wanted(p) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b state.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// concerns says whether the Pod is named anywhere in what the policy resolves to.
func (p policy) concerns(pod *corev1.Pod, namespace labels.Set) bool {
	if p.selects(pod) {
		return true
	}
	for r := range p.rules() {
		if r.hasPeer(pod, namespace) {
			return true
		}
	}
	return slices.ContainsFunc(p.lookups(), func(port networkingv1.NetworkPolicyPort) bool {
		_, has := numberOf(pod, port.Port.StrVal, protocolOf(port))
		return has
	})
}

// looksInto says whether Pods of a namespace with these labels may be peers.
func (p policy) looksInto(namespace labels.Set) bool {
	if namespace == nil {
		return false
	}
	for r := range p.rules() {
		for _, peer := range r.peers {
			if peer.namespaces != nil && peer.namespaces.Matches(namespace) {
				return true
			}
		}
	}
	return false
}

// wide says whether Pods outside of the policy's namespace concern it.
func (p policy) wide() bool {
	for r := range p.rules() {
		if slices.ContainsFunc(r.peers, func(q peer) bool { return q.namespaces != nil }) {
			return true
		}
	}
	return len(p.lookups()) > 0
}
