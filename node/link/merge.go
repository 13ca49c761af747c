package link

import (
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Merge takes in what a server told, and returns what of n that has changed.
func (n *Network) Merge(resp *NetworkResponse) NetworkChange {
	moved := n.Ranges != resp.Ranges
	n.Ranges = resp.Ranges
	if resp.Whole {
		*n = *NewNetwork()
		n.Ranges = resp.Ranges
		n.add(resp)
		return NetworkChange{Whole: true}
	}
	touched := map[types.NamespacedName]bool{}
	change := NetworkChange{Whole: moved, Peers: len(resp.Peers) > 0, Policies: len(resp.Policies) > 0}
	for _, gone := range resp.Gone {
		key := types.NamespacedName{Namespace: gone.Namespace, Name: gone.Name}
		switch gone.Kind {
		case KindPeer:
			change.Peers = true
			delete(n.Peers, gone.Name)
		case KindPolicy:
			change.Policies = true
			delete(n.Policies, key)
		case KindService:
			touched[key] = true
			delete(n.Services, key)
		case KindEndpointSlice:
			touched[n.dropSlice(key)] = true
		}
	}
	for i := range resp.EndpointSlices {
		touched[n.dropSlice(keyOf(&resp.EndpointSlices[i]))] = true // it may have belonged to another Service
		touched[serviceOf(&resp.EndpointSlices[i])] = true
	}
	for i := range resp.Services {
		svc := &resp.Services[i]
		touched[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = true
	}
	n.add(resp)
	delete(touched, types.NamespacedName{})
	change.Services = slices.Collect(maps.Keys(touched))
	return change
}

func (n *Network) add(resp *NetworkResponse) {
	for _, peer := range resp.Peers {
		n.Peers[peer.Name] = peer
	}
	for _, svc := range resp.Services { // copies: a pointer into resp would keep all of it
		n.Services[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = &svc
	}
	for _, slice := range resp.EndpointSlices {
		n.PutSlice(&slice)
	}
	for _, p := range resp.Policies {
		n.Policies[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = &p
	}
}

// PutSlice adds an EndpointSlice, or replaces the one of its name.
func (n *Network) PutSlice(s *discoveryv1.EndpointSlice) {
	service := serviceOf(s)
	if n.Slices[service] == nil {
		n.Slices[service] = map[string]*discoveryv1.EndpointSlice{}
	}
	n.Slices[service][s.Name] = s
	n.home[keyOf(s)] = service
}

// dropSlice removes an EndpointSlice and returns the Service that it belonged to, nothing if there was none.
func (n *Network) dropSlice(key types.NamespacedName) types.NamespacedName {
	service := n.home[key]
	delete(n.home, key)
	delete(n.Slices[service], key.Name)
	if len(n.Slices[service]) == 0 {
		delete(n.Slices, service)
	}
	return service
}

func keyOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}

// serviceOf is the Service that an EndpointSlice says it belongs to.
func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

// Response is all of n as a server would tell it.
func (n *Network) Response(store string, version uint64) NetworkResponse {
	resp := NetworkResponse{Store: store, Version: version, Ranges: n.Ranges, Whole: true}
	for _, peer := range n.Peers {
		resp.Peers = append(resp.Peers, peer)
	}
	for _, svc := range n.Services {
		resp.Services = append(resp.Services, *svc)
	}
	for _, byName := range n.Slices {
		for _, s := range byName {
			resp.EndpointSlices = append(resp.EndpointSlices, *s)
		}
	}
	for _, p := range n.Policies {
		resp.Policies = append(resp.Policies, *p)
	}
	return resp
}
