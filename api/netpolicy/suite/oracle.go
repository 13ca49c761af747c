package suite

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Allowed says whether the probe must get through.
func (c Cluster) Allowed(p Probe) bool { return c.mayLeave(p) && c.mayEnter(p) }

func (c Cluster) mayLeave(p Probe) bool {
	restricted := false
	for _, policy := range c.about(p.From, networkingv1.PolicyTypeEgress) {
		restricted = true
		for _, rule := range policy.Spec.Egress {
			if anyPort(rule.Ports, p) && c.anyPeer(policy.Namespace, rule.To, p.To) {
				return true
			}
		}
	}
	return !restricted
}

func (c Cluster) mayEnter(p Probe) bool {
	restricted := false
	for _, policy := range c.about(p.To, networkingv1.PolicyTypeIngress) {
		restricted = true
		for _, rule := range policy.Spec.Ingress {
			if anyPort(rule.Ports, p) && c.anyPeer(policy.Namespace, rule.From, p.From) {
				return true
			}
		}
	}
	return !restricted
}

// about are the policies that restrict a Pod in a direction.
func (c Cluster) about(pod *corev1.Pod, direction networkingv1.PolicyType) (found []*networkingv1.NetworkPolicy) {
	for _, p := range c.Policies {
		types := p.Spec.PolicyTypes
		if len(types) == 0 {
			types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			if len(p.Spec.Egress) > 0 {
				types = append(types, networkingv1.PolicyTypeEgress)
			}
		}
		if p.Namespace == pod.Namespace && matches(&p.Spec.PodSelector, pod.Labels) && slices.Contains(types, direction) {
			found = append(found, p)
		}
	}
	return found
}

func (c Cluster) anyPeer(own string, peers []networkingv1.NetworkPolicyPeer, pod *corev1.Pod) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool { return c.isPeer(own, peer, pod) })
}

func (c Cluster) isPeer(own string, peer networkingv1.NetworkPolicyPeer, pod *corev1.Pod) bool {
	if block := peer.IPBlock; block != nil {
		return within(block.CIDR, pod) && !slices.ContainsFunc(block.Except, func(except string) bool { return within(except, pod) })
	}
	if peer.PodSelector != nil && !matches(peer.PodSelector, pod.Labels) {
		return false
	}
	if peer.NamespaceSelector == nil {
		return pod.Namespace == own
	}
	return slices.ContainsFunc(c.Namespaces, func(ns *corev1.Namespace) bool {
		return ns.Name == pod.Namespace && matches(peer.NamespaceSelector, ns.Labels)
	})
}

func within(cidr string, pod *corev1.Pod) bool {
	return netip.MustParsePrefix(cidr).Contains(netip.MustParseAddr(pod.Status.PodIP))
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic("suite: " + err.Error())
	}
	return parsed.Matches(labels.Set(set))
}

func anyPort(ports []networkingv1.NetworkPolicyPort, p Probe) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(port networkingv1.NetworkPolicyPort) bool { return isPort(port, p) })
}

func isPort(port networkingv1.NetworkPolicyPort, p Probe) bool {
	protocol := corev1.ProtocolTCP
	if port.Protocol != nil {
		protocol = *port.Protocol
	}
	switch {
	case protocol != p.Protocol:
		return false
	case port.Port == nil:
		return true
	case port.Port.Type == intstr.String:
		return slices.ContainsFunc(p.To.Spec.Containers, func(c corev1.Container) bool {
			return c.Ports[0] == corev1.ContainerPort{Name: port.Port.StrVal, ContainerPort: p.Port, Protocol: protocol}
		})
	case port.EndPort != nil:
		return port.Port.IntVal <= p.Port && p.Port <= *port.EndPort
	}
	return port.Port.IntVal == p.Port
}
