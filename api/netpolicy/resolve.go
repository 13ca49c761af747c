// Package netpolicy turns NetworkPolicies into what nodes enforce: addresses instead of selectors, numbers instead of names of
// ports. It reads the store's objects and nothing else, keeps no Pods, and talks to nobody. Resolve says what a policy means
// now; an Index says which policies mean something else after a change. Start at Resolve.
package netpolicy

import (
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

// Resolve says what p means for the Pods and Namespaces in r. It is the same for the same content of r, byte for byte.
func Resolve(r state.Reader, p *networkingv1.NetworkPolicy) link.Policy {
	v, parsed := view{r}, parse(p)
	selected := slices.Collect(v.selected(parsed))
	out := link.Policy{Namespace: p.Namespace, Name: p.Name, Pods: addressesOf(selected)}
	if parsed.ingress != nil {
		rules := make([]link.PolicyRule, 0, len(*parsed.ingress))
		for _, rule := range *parsed.ingress {
			rules = append(rules, v.resolve(rule, selected))
		}
		out.Ingress = &rules
	}
	if parsed.egress != nil {
		rules := make([]link.PolicyRule, 0, len(*parsed.egress))
		for _, rule := range *parsed.egress {
			rules = append(rules, v.resolve(rule, v.destinations(rule)))
		}
		out.Egress = &rules
	}
	return out
}

// view is the cluster as policies see it.
type view struct{ state.Reader }

func (v view) selected(p policy) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for pod := range state.List[*corev1.Pod](v, p.namespace) {
			if counts(pod) && p.selects(pod) && !yield(pod) {
				return
			}
		}
	}
}

// peers are the Pods that a rule's selectors name.
func (v view) peers(r rule) []*corev1.Pod {
	var found []*corev1.Pod
	for namespace := range v.namespaces(r) {
		labels := v.labelsOfNamespace(namespace)
		for pod := range state.List[*corev1.Pod](v, namespace) {
			if counts(pod) && r.hasPeer(pod, labels) {
				found = append(found, pod)
			}
		}
	}
	return found
}

// namespaces are those in which a rule can have peers.
func (v view) namespaces(r rule) iter.Seq[string] {
	names := map[string]bool{}
	for _, p := range r.peers {
		if p.namespaces == nil {
			names[p.namespace] = true
			continue
		}
		for ns := range state.List[*corev1.Namespace](v, "") {
			if p.namespaces.Matches(namespaceLabels(ns.Name, ns)) {
				names[ns.Name] = true
			}
		}
	}
	return maps.Keys(names)
}

// destinations are the Pods at which an egress rule's named ports are looked up: its peers, or any Pod if the rule may lead
// to others as well.
func (v view) destinations(r rule) []*corev1.Pod {
	switch {
	case !r.namesPorts():
		return nil
	case !r.leadsAnywhere():
		return v.peers(r)
	}
	var all []*corev1.Pod
	for pod := range state.List[*corev1.Pod](v, "") {
		if counts(pod) {
			all = append(all, pod)
		}
	}
	return all
}

func (v view) resolve(r rule, destinations []*corev1.Pod) link.PolicyRule {
	out := link.PolicyRule{Anyone: r.anyone, EveryPod: r.everyPod, Blocks: r.blocks, Addresses: addressesOf(v.peers(r))}
	for _, port := range r.ports {
		out.Ports = append(out.Ports, resolvePort(port, destinations)...)
	}
	out.NoPort = len(r.ports) > 0 && len(out.Ports) == 0
	return out
}

func resolvePort(port networkingv1.NetworkPolicyPort, destinations []*corev1.Pod) []link.PolicyPort {
	protocol := protocolOf(port)
	switch {
	case port.Port == nil:
		return []link.PolicyPort{{Protocol: protocol}}
	case port.Port.Type == intstr.Int:
		last := port.Port.IntVal
		if port.EndPort != nil {
			last = *port.EndPort
		}
		return []link.PolicyPort{{Protocol: protocol, First: port.Port.IntVal, Last: last}}
	}
	byNumber := map[int32][]*corev1.Pod{}
	for _, pod := range destinations {
		if number, ok := numberOf(pod, port.Port.StrVal, protocol); ok {
			byNumber[number] = append(byNumber[number], pod)
		}
	}
	var out []link.PolicyPort
	for _, number := range slices.Sorted(maps.Keys(byNumber)) {
		out = append(out, link.PolicyPort{Protocol: protocol, First: number, Last: number, Pods: addressesOf(byNumber[number])})
	}
	return out
}

func addressesOf(pods []*corev1.Pod) []string {
	var out []string
	for _, pod := range pods {
		out = append(out, addresses(pod)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
