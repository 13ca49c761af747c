package routing

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// port is a port of a Service as its EndpointSlices name it.
type port struct {
	name     string
	protocol corev1.Protocol
}

// around leads a Service's connections around nodes that do not answer: their endpoints are not ready here. A port of which
// no other endpoint is ready keeps them, for what this node cannot hear may still be there. Slices are never changed.
func (r *reach) around(svc *corev1.Service, all map[string]*discoveryv1.EndpointSlice) {
	if !r.anyLost() || svc == nil || svc.Spec.PublishNotReadyAddresses || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return // who asks for the addresses of a headless Service chooses among them on its own
	}
	elsewhere := map[port]bool{}
	for _, s := range all {
		if r.hasOther(s) {
			for _, p := range portsOf(s) {
				elsewhere[p] = true
			}
		}
	}
	for name, s := range all {
		if every(portsOf(s), elsewhere) {
			all[name] = r.without(s)
		}
	}
}

// hasOther says whether an endpoint is ready on a node that is not lost.
func (r *reach) hasOther(s *discoveryv1.EndpointSlice) bool {
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; isTrue(e.Conditions.Ready) && !r.onLost(e) {
			return true
		}
	}
	return false
}

func (r *reach) onLost(e *discoveryv1.Endpoint) bool {
	return e.NodeName != nil && r.isLost(*e.NodeName)
}

// without returns s with the endpoints on lost nodes not ready; s itself if there are none.
func (r *reach) without(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := s
	for i := range s.Endpoints {
		if !r.onLost(&s.Endpoints[i]) {
			continue
		}
		if out == s {
			out = s.DeepCopy()
		}
		c, no := &out.Endpoints[i].Conditions, false
		c.Ready, c.Serving = &no, &no
	}
	return out
}

func portsOf(s *discoveryv1.EndpointSlice) (ports []port) {
	for _, p := range s.Ports {
		var named port
		if p.Name != nil {
			named.name = *p.Name
		}
		if p.Protocol != nil {
			named.protocol = *p.Protocol
		}
		ports = append(ports, named)
	}
	return ports
}

func every(ports []port, in map[port]bool) bool {
	for _, p := range ports {
		if !in[p] {
			return false
		}
	}
	return true
}
