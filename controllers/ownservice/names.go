package ownservice

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	dnsPort = 53
	// maxNameServers bounds the slice, which every node is told whenever one of these nodes comes or goes. They answer for a
	// node only while its own agent does not.
	maxNameServers = 100
)

var (
	names = state.Key{Namespace: object.NameServiceNamespace, Name: object.NameService}
	// nameLabels is the one by which tools find it. Without kubernetes.io/cluster-service: what has that, `kubectl cluster-info`
	// says to be reachable through the API's proxy, which there is none of.
	nameLabels = map[string]string{"k8s-app": "kube-dns"}
)

func reconcileNames(tx *state.Txn, _ state.Key, _ time.Time) (time.Duration, error) {
	services, err := serviceRange(tx)
	if err != nil {
		return 0, err
	}
	write(tx, nameService(services), []*discoveryv1.EndpointSlice{nameSlice(tx)})
	return 0, nil
}

func nameService(services netip.Prefix) *corev1.Service {
	svc := newService(names, nameLabels, object.NameServiceAddress(services))
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: dnsPort, TargetPort: intstr.FromInt(dnsPort)},
		{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: dnsPort, TargetPort: intstr.FromInt(dnsPort)},
	}
	return svc
}

func dnsEndpoint(name string, protocol corev1.Protocol) discoveryv1.EndpointPort {
	number := int32(dnsPort)
	return discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number}
}

// nameSlice has the first nodes that are Ready, each by its own address in the range of its Pods.
func nameSlice(r state.Reader) *discoveryv1.EndpointSlice {
	var endpoints []discoveryv1.Endpoint
	for node := range state.List[*corev1.Node](r, "") {
		pods, err := netip.ParsePrefix(node.Spec.PodCIDR)
		if err != nil || object.NodeReady(node).Status != corev1.ConditionTrue {
			continue // it has none yet, or is not there
		}
		if len(endpoints) == maxNameServers {
			break
		}
		ready, name := true, node.Name
		endpoints = append(endpoints, discoveryv1.Endpoint{
			Addresses: []string{pods.Masked().Addr().Next().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, NodeName: &name,
		})
	}
	return newSlice(names, names.Name, endpoints, dnsEndpoint("dns", corev1.ProtocolUDP), dnsEndpoint("dns-tcp", corev1.ProtocolTCP))
}
