package endpoints

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
)

// group is the Pods at which a Service's ports have the same numbers: named target ports may differ from Pod to Pod.
type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// listed says whether a Pod is an endpoint at all: it has an address and has not run to its end.
func listed(pod *corev1.Pod) bool { return pod.Status.PodIP != "" && !podcontrol.Finished(pod) }

// byPorts groups the Pods by what the Service's ports are there. The order of groups and endpoints is fixed.
func byPorts(svc *corev1.Service, pods []*corev1.Pod) []group {
	var groups []group
	for _, pod := range pods {
		ports := portsOf(svc, pod)
		i := slices.IndexFunc(groups, func(g group) bool { return slices.EqualFunc(g.ports, ports, samePort) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{ports: ports})
		}
		groups[i].endpoints = append(groups[i].endpoints, endpointOf(svc, pod))
	}
	return groups
}

// samePort compares what Pods can differ in.
func samePort(a, b discoveryv1.EndpointPort) bool {
	return *a.Name == *b.Name && *a.Protocol == *b.Protocol && *a.Port == *b.Port
}

// portsOf resolves the Service's ports at one Pod, without those whose name the Pod does not have.
func portsOf(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number, ok := targetOf(p, pod)
		if !ok {
			continue
		}
		name, protocol := p.Name, p.Protocol
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number, AppProtocol: p.AppProtocol})
	}
	slices.SortFunc(ports, func(a, b discoveryv1.EndpointPort) int {
		return cmp.Or(cmp.Compare(*a.Name, *b.Name), cmp.Compare(*a.Port, *b.Port))
	})
	return ports
}

func targetOf(p *corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if p.TargetPort.Type == intstr.Int {
		return cmp.Or(p.TargetPort.IntVal, p.Port), true
	}
	for i := range pod.Spec.Containers {
		for _, cp := range pod.Spec.Containers[i].Ports {
			if cp.Name == p.TargetPort.StrVal && cmp.Or(cp.Protocol, corev1.ProtocolTCP) == cmp.Or(p.Protocol, corev1.ProtocolTCP) {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

func endpointOf(svc *corev1.Service, pod *corev1.Pod) discoveryv1.Endpoint {
	_, serving := podcontrol.Ready(pod)
	terminating := pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	serving = serving || svc.Spec.PublishNotReadyAddresses
	e := discoveryv1.Endpoint{
		Addresses:  []string{pod.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = &pod.Spec.NodeName
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		e.Hostname = &pod.Spec.Hostname
	}
	return e
}
