package ownservice

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	portName = "https"
	port     = 443
)

var (
	api    = state.Key{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}
	labels = map[string]string{"component": "apiserver", "provider": "kubernetes"}
)

func reconcileAPI(tx *state.Txn, _ state.Key, _ time.Time) (time.Duration, error) {
	servers := endpoints(tx)
	if state.Len[*object.Server](tx) == 0 {
		return 0, nil // none has said anything yet
	}
	services, err := serviceRange(tx)
	if err != nil {
		return 0, err
	}
	write(tx, apiService(services, servers), apiSlices(servers))
	return 0, nil
}

// endpoints are where Pods reach servers, sorted.
func endpoints(r state.Reader) (all []netip.AddrPort) {
	for s := range state.List[*object.Server](r, "") {
		if at, err := netip.ParseAddrPort(s.Spec.Endpoint); err == nil && at.Addr().Is4() {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

func apiService(services netip.Prefix, servers []netip.AddrPort) *corev1.Service {
	target := port
	if len(servers) > 0 {
		target = int(servers[0].Port())
	}
	svc := newService(api, labels, services.Masked().Addr().Next())
	svc.Spec.Ports = []corev1.ServicePort{{Name: portName, Protocol: corev1.ProtocolTCP, Port: port, TargetPort: intstr.FromInt(target)}}
	return svc
}

// apiSlices has a slice for each port that servers are reached on, since that is the slice's: nearly always one.
func apiSlices(servers []netip.AddrPort) (all []*discoveryv1.EndpointSlice) {
	byPort := map[uint16][]discoveryv1.Endpoint{}
	for _, at := range servers {
		ready := true
		byPort[at.Port()] = append(byPort[at.Port()], discoveryv1.Endpoint{
			Addresses: []string{at.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	for i, number := range slices.Sorted(maps.Keys(byPort)) {
		name := api.Name
		if i > 0 {
			name = fmt.Sprintf("%s-%d", api.Name, number)
		}
		protocol, https, target := corev1.ProtocolTCP, portName, int32(number)
		all = append(all, newSlice(api, name, byPort[number], discoveryv1.EndpointPort{Name: &https, Protocol: &protocol, Port: &target}))
	}
	return all
}
