package netpolicy

import (
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// policy is a NetworkPolicy with its selectors parsed.
type policy struct {
	namespace       string
	pods            labels.Selector
	ingress, egress *[]rule // nil: not restricted
}

// rule is one item of ingress or egress.
type rule struct {
	anyone   bool
	everyPod bool // a peer is every Pod of the cluster
	peers    []peer
	blocks   []link.PolicyBlock
	ports    []networkingv1.NetworkPolicyPort
}

// peer selects Pods by labels.
type peer struct {
	namespace  string          // the policy's own
	namespaces labels.Selector // nil: only its own
	pods       labels.Selector
}

func parse(p *networkingv1.NetworkPolicy) policy {
	out := policy{namespace: p.Namespace, pods: selector(&p.Spec.PodSelector)}
	ingress, egress := restricts(&p.Spec)
	if ingress {
		rules := make([]rule, 0, len(p.Spec.Ingress))
		for _, r := range p.Spec.Ingress {
			rules = append(rules, parseRule(p.Namespace, r.From, r.Ports))
		}
		out.ingress = &rules
	}
	if egress {
		rules := make([]rule, 0, len(p.Spec.Egress))
		for _, r := range p.Spec.Egress {
			rules = append(rules, parseRule(p.Namespace, r.To, r.Ports))
		}
		out.egress = &rules
	}
	return out
}

// restricts says in which directions; of a policy that does not, what Kubernetes' defaults say.
func restricts(spec *networkingv1.NetworkPolicySpec) (ingress, egress bool) {
	if len(spec.PolicyTypes) == 0 {
		return true, len(spec.Egress) > 0
	}
	return slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress), slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

func parseRule(namespace string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) rule {
	r := rule{anyone: len(peers) == 0, ports: ports}
	for _, p := range peers {
		if p.IPBlock != nil {
			r.blocks = append(r.blocks, block(p.IPBlock))
			continue
		}
		parsed := parsePeer(namespace, p)
		if parsed.namespaces != nil && parsed.namespaces.Empty() && parsed.pods.Empty() {
			r.everyPod = true
			continue
		}
		r.peers = append(r.peers, parsed)
	}
	return r
}

func parsePeer(namespace string, p networkingv1.NetworkPolicyPeer) peer {
	out := peer{namespace: namespace, pods: labels.Everything()}
	if p.PodSelector != nil {
		out.pods = selector(p.PodSelector)
	}
	if p.NamespaceSelector != nil {
		out.namespaces = selector(p.NamespaceSelector)
	}
	return out
}

// block writes ranges by their first address.
func block(b *networkingv1.IPBlock) link.PolicyBlock {
	out := link.PolicyBlock{CIDR: masked(b.CIDR)}
	for _, except := range b.Except {
		out.Except = append(out.Except, masked(except))
	}
	return out
}

func masked(cidr string) string {
	if p, err := netip.ParsePrefix(cidr); err == nil {
		return p.Masked().String()
	}
	return cidr // validation lets only old spellings of a range pass here; a node leaves out what it cannot read
}

func selector(s *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing() // validation lets none of these into the store
	}
	return parsed
}

// selects says whether the policy is about the Pod.
func (p policy) selects(pod *corev1.Pod) bool {
	return pod.Namespace == p.namespace && p.pods.Matches(labels.Set(pod.Labels))
}

// hasPeer says whether one of the rule's selectors names the Pod, in a Namespace with these labels.
func (r rule) hasPeer(pod *corev1.Pod, namespace labels.Set) bool {
	return slices.ContainsFunc(r.peers, func(p peer) bool {
		if p.namespaces == nil && pod.Namespace != p.namespace || p.namespaces != nil && !p.namespaces.Matches(namespace) {
			return false
		}
		return p.pods.Matches(labels.Set(pod.Labels))
	})
}

func (r rule) namesPorts() bool { return slices.ContainsFunc(r.ports, named) }

func named(p networkingv1.NetworkPolicyPort) bool {
	return p.Port != nil && p.Port.Type == intstr.String
}

// leadsAnywhere says that not only Pods its selectors name can be the other side.
func (r rule) leadsAnywhere() bool { return r.anyone || r.everyPod || len(r.blocks) > 0 }

// rules are those of both directions.
func (p policy) rules() iter.Seq[rule] {
	return func(yield func(rule) bool) {
		for _, direction := range []*[]rule{p.ingress, p.egress} {
			if direction == nil {
				continue
			}
			for _, r := range *direction {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// lookups are the named ports that are looked up at Pods which no selector of the policy names.
func (p policy) lookups() (ports []networkingv1.NetworkPolicyPort) {
	if p.egress == nil {
		return nil
	}
	for _, r := range *p.egress {
		if !r.leadsAnywhere() {
			continue
		}
		for _, port := range r.ports {
			if named(port) {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

func protocolOf(p networkingv1.NetworkPolicyPort) corev1.Protocol {
	if p.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *p.Protocol
}
