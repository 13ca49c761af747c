package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// names is everything below one Service's name. It is never changed once made.
type names struct {
	alias     string                  // of an ExternalName Service: the name it stands for
	addresses []netip.Addr            // what the Service's own name means
	hosts     map[string][]netip.Addr // the endpoints of a headless Service, by the label before the Service's name
	ports     []port
}

// port is one SRV record of a Service.
type port struct {
	label    string // _name
	protocol string // _tcp
	number   uint16
	host     string // label of the endpoint; "" for the Service itself
}

// namesOf works out the names that Kubernetes' DNS specification gives a Service and the endpoints in its slices.
func namesOf(svc *corev1.Service, slices []*discoveryv1.EndpointSlice) *names {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return &names{alias: dns.CanonicalName(svc.Spec.ExternalName)}
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return headless(svc, slices)
	default:
		return ofClusterIP(svc)
	}
}

func ofClusterIP(svc *corev1.Service) *names {
	n := &names{}
	for _, text := range clusterIPs(svc) {
		if address, err := netip.ParseAddr(text); err == nil { // none is given to it yet, else
			n.addresses = append(n.addresses, address)
		}
	}
	if len(n.addresses) == 0 {
		return n
	}
	for _, p := range svc.Spec.Ports {
		if p.Name != "" {
			n.ports = append(n.ports, newPort(p.Name, p.Protocol, p.Port))
		}
	}
	return n
}

func clusterIPs(svc *corev1.Service) []string {
	if len(svc.Spec.ClusterIPs) > 0 {
		return svc.Spec.ClusterIPs
	}
	return []string{svc.Spec.ClusterIP}
}

func newPort(name string, protocol corev1.Protocol, number int32) port {
	protocol = cmp.Or(protocol, corev1.ProtocolTCP)
	return port{label: "_" + strings.ToLower(name), protocol: "_" + strings.ToLower(string(protocol)), number: uint16(number)}
}

// headless gives a name to every endpoint that is ready, or that is published although it is not.
func headless(svc *corev1.Service, all []*discoveryv1.EndpointSlice) *names {
	n := &names{hosts: map[string][]netip.Addr{}}
	for _, slice := range all {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if ready := e.Conditions.Ready; ready != nil && !*ready && !svc.Spec.PublishNotReadyAddresses {
				continue
			}
			for _, text := range e.Addresses {
				if address, err := netip.ParseAddr(text); err == nil { // a name, of a slice for names, else
					n.endpoint(hostOf(e, address), address, slice.Ports)
				}
			}
		}
	}
	slices.SortFunc(n.addresses, netip.Addr.Compare)
	n.addresses = slices.Compact(n.addresses)
	slices.SortFunc(n.ports, port.compare)
	n.ports = slices.Compact(n.ports)
	return n
}

func (n *names) endpoint(host string, address netip.Addr, ports []discoveryv1.EndpointPort) {
	n.addresses = append(n.addresses, address)
	if !slices.Contains(n.hosts[host], address) {
		n.hosts[host] = append(n.hosts[host], address)
	}
	for _, p := range ports {
		if p.Name == nil || *p.Name == "" || p.Port == nil {
			continue
		}
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		own := newPort(*p.Name, protocol, *p.Port)
		own.host = host
		n.ports = append(n.ports, own)
	}
}

// hostOf is the endpoint's label: its hostname, or its address with dashes, as CoreDNS has it.
func hostOf(e *discoveryv1.Endpoint, address netip.Addr) string {
	if e.Hostname != nil && *e.Hostname != "" {
		return strings.ToLower(*e.Hostname)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(address.String())
}

func (p port) compare(q port) int {
	return cmp.Or(strings.Compare(p.label, q.label), strings.Compare(p.protocol, q.protocol), cmp.Compare(p.number, q.number), strings.Compare(p.host, q.host))
}

// exist tells whether the Service's own name does: one without any address has none.
func (n *names) exist() bool { return n.alias != "" || len(n.addresses) > 0 }

// find looks up what stands before the Service's name: its labels, the nearest to the root last.
func (n *names) find(labels []string) found {
	switch {
	case !n.exist():
		return found{}
	case len(labels) == 0:
		return found{exists: true, alias: n.alias, addresses: n.addresses}
	case len(labels) == 1 && strings.HasPrefix(labels[0], "_"):
		return found{exists: slices.ContainsFunc(n.ports, func(p port) bool { return p.protocol == labels[0] })}
	case len(labels) == 1:
		addresses := n.hosts[labels[0]]
		return found{exists: len(addresses) > 0, addresses: addresses}
	case len(labels) == 2:
		return n.findPorts(labels[0], labels[1])
	}
	return found{}
}

func (n *names) findPorts(label, protocol string) found {
	var f found
	for _, p := range n.ports {
		if p.label == label && p.protocol == protocol {
			f.exists, f.services = true, append(f.services, p)
		}
	}
	f.of = n
	return f
}

// pointers yields every address with the label that it leads back to; "" for the Service itself.
func (n *names) pointers(yield func(address netip.Addr, host string) bool) {
	if n.hosts == nil {
		for _, address := range n.addresses {
			if !yield(address, "") {
				return
			}
		}
	}
	for host, addresses := range n.hosts {
		for _, address := range addresses {
			if !yield(address, host) {
				return
			}
		}
	}
}
