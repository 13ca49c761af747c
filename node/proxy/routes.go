package proxy

import (
	"cmp"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// frontend is what a client connects to.
type frontend struct {
	address  netip.Addr // zero: every address of the node but loopback
	protocol string     // "tcp" or "udp"; "" with port 0: the address as a whole
	port     uint16
}

// source says what happens to a client's address.
type source string

const (
	keepPods source = "pods" // Pods keep theirs, all others are masqueraded: answers of Pods elsewhere must pass this node
	keepNone source = "none"
	keepAll  source = "all"
)

// target is where new connections to a frontend go.
type target struct {
	source    source
	endpoints []netip.AddrPort
}

// route is all that is done for one frontend.
type route struct {
	frontend
	target
	// inside is where clients within the cluster, and the node itself, go if it is not where all others go.
	inside *target
	// refusal is what meets those who find no endpoint: "drop", or a reset or ICMP message at once.
	refusal string
	// affinity is for how many seconds a client keeps its endpoint; 0: every connection is on its own.
	affinity int32
	name     string // of the Service's port: frontends of one share their clients' endpoints
	known    []endpoint
}

// routesOf is what a Service wants of a node, in a fixed order: nothing if it has no address of its own.
func routesOf(svc *corev1.Service, slices []*discoveryv1.EndpointSlice, node string) []route {
	if svc == nil || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	address, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil || !address.Is4() {
		return nil // headless, or not allocated yet
	}
	routes := []route{{frontend: frontend{address: address}}}
	for i := range svc.Spec.Ports {
		routes = append(routes, portRoutes(svc, &svc.Spec.Ports[i], address, endpointsOf(&svc.Spec.Ports[i], slices, node))...)
	}
	return routes
}

func portRoutes(svc *corev1.Service, port *corev1.ServicePort, address netip.Addr, known []endpoint) []route {
	base := route{name: svc.Namespace + "/" + svc.Name + ":" + port.Name, affinity: affinityOf(svc), known: known}
	base.protocol = strings.ToLower(string(cmp.Or(port.Protocol, corev1.ProtocolTCP)))
	everywhere, here := usable(known), usable(onNode(known))

	cluster := base
	cluster.address, cluster.port = address, uint16(port.Port)
	cluster.target = target{keepPods, everywhere}
	if valueOr(svc.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster) == corev1.ServiceInternalTrafficPolicyLocal {
		cluster.endpoints = here
	}
	routes := []route{cluster.refuse(everywhere)}

	outside := base
	outside.target = target{keepNone, everywhere}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		outside.target, outside.inside = target{keepAll, here}, &target{keepPods, everywhere}
	}
	for _, text := range svc.Spec.ExternalIPs {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Is4() {
			outside.address, outside.port = ip, uint16(port.Port)
			routes = append(routes, outside.refuse(everywhere))
		}
	}
	if port.NodePort != 0 && svc.Spec.Type != corev1.ServiceTypeClusterIP {
		outside.address, outside.port = netip.Addr{}, uint16(port.NodePort)
		routes = append(routes, outside.refuse(everywhere))
	}
	return routes
}

// refuse fills in what those meet who find no endpoint: a Service without any says so at once, one that has some
// elsewhere stays silent, as a policy of Local asks.
func (r route) refuse(everywhere []netip.AddrPort) route {
	switch {
	case len(r.endpoints) > 0:
	case len(everywhere) > 0:
		r.refusal = "drop"
	default:
		r.refusal = "goto " + chainReject
	}
	return r
}

// Kubernetes' default for sessionAffinity: ClientIP.
const defaultAffinity = corev1.DefaultClientIPServiceAffinitySeconds

func affinityOf(svc *corev1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
		return valueOr(c.ClientIP.TimeoutSeconds, defaultAffinity)
	}
	return defaultAffinity
}
