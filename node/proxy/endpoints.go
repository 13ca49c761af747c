package proxy

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is one address and port behind a Service's port, as all of the Service's slices together say.
type endpoint struct {
	address     netip.AddrPort
	local       bool // on this node
	ready       bool
	serving     bool
	terminating bool
}

// endpointsOf resolves one port of a Service, in the order of addresses. What several slices name counts once.
func endpointsOf(port *corev1.ServicePort, all []*discoveryv1.EndpointSlice, node string) []endpoint {
	var found []endpoint
	for _, s := range all {
		number, ok := portIn(s, port)
		if !ok || s.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		for i := range s.Endpoints {
			if e, ok := resolve(&s.Endpoints[i], number, node); ok {
				found = append(found, e)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b endpoint) int { return a.address.Compare(b.address) })
	return slices.CompactFunc(found, func(a, b endpoint) bool { return a.address == b.address })
}

func portIn(s *discoveryv1.EndpointSlice, port *corev1.ServicePort) (uint16, bool) {
	for _, p := range s.Ports {
		if p.Port != nil && valueOr(p.Name, "") == port.Name && valueOr(p.Protocol, corev1.ProtocolTCP) == cmp.Or(port.Protocol, corev1.ProtocolTCP) {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// resolve reads a condition that is not given as Kubernetes says: ready, serving as ready, not terminating.
func resolve(e *discoveryv1.Endpoint, port uint16, node string) (endpoint, bool) {
	if len(e.Addresses) == 0 {
		return endpoint{}, false
	}
	address, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || !address.Is4() {
		return endpoint{}, false
	}
	ready := valueOr(e.Conditions.Ready, true)
	return endpoint{
		address: netip.AddrPortFrom(address, port), local: valueOr(e.NodeName, "") == node,
		ready: ready, serving: valueOr(e.Conditions.Serving, ready), terminating: valueOr(e.Conditions.Terminating, false),
	}, true
}

func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// usable are the endpoints that new connections go to: the ready ones; if there is none, those that still serve while they
// terminate (KEP-1669).
func usable(all []endpoint) []netip.AddrPort {
	if ready := addresses(all, func(e endpoint) bool { return e.ready }); len(ready) > 0 {
		return ready
	}
	return addresses(all, func(e endpoint) bool { return e.serving && e.terminating })
}

func addresses(all []endpoint, want func(endpoint) bool) []netip.AddrPort {
	var list []netip.AddrPort
	for _, e := range all {
		if want(e) {
			list = append(list, e.address)
		}
	}
	return list
}

func onNode(all []endpoint) []endpoint {
	return slices.DeleteFunc(slices.Clone(all), func(e endpoint) bool { return !e.local })
}
