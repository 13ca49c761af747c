package netpolicy

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/state"
)

// counts says whether policies know the Pod: it has an address of its own and has not ended. A Pod with hostNetwork shows up
// with its node's address, which is not its alone.
func counts(pod *corev1.Pod) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return !ended && !pod.Spec.HostNetwork && (pod.Status.PodIP != "" || len(pod.Status.PodIPs) > 0)
}

func addresses(pod *corev1.Pod) []string {
	if len(pod.Status.PodIPs) == 0 {
		return []string{pod.Status.PodIP}
	}
	out := make([]string, 0, len(pod.Status.PodIPs))
	for _, ip := range pod.Status.PodIPs {
		out = append(out, ip.IP)
	}
	return out
}

// numberOf looks up a named port of a Pod, in containers that run as long as it does.
func numberOf(pod *corev1.Pod, name string, protocol corev1.Protocol) (int32, bool) {
	for _, c := range pod.Spec.Containers {
		if number, ok := numberIn(c, name, protocol); ok {
			return number, true
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if number, ok := numberIn(c, name, protocol); ok {
			return number, true
		}
	}
	return 0, false
}

func numberIn(c corev1.Container, name string, protocol corev1.Protocol) (int32, bool) {
	for _, port := range c.Ports {
		if port.Name == name && (port.Protocol == protocol || port.Protocol == "" && protocol == corev1.ProtocolTCP) {
			return port.ContainerPort, true
		}
	}
	return 0, false
}

// same says that two versions of a Pod are one to policies, as they are after most changes: those of conditions and containers.
func same(old, now *corev1.Pod) bool {
	if old == nil || now == nil || old.UID != now.UID || counts(old) != counts(now) {
		return false
	}
	return !counts(now) || maps.Equal(old.Labels, now.Labels) && slices.Equal(addresses(old), addresses(now))
}

func (v view) labelsOfNamespace(name string) labels.Set {
	ns, _ := state.Get[*corev1.Namespace](v, state.Key{Name: name})
	return namespaceLabels(name, ns)
}

// namespaceLabels are a Namespace's labels with the one that Kubernetes gives to each; ns is nil if it is not known.
func namespaceLabels(name string, ns *corev1.Namespace) labels.Set {
	if ns != nil && ns.Labels[corev1.LabelMetadataName] == name {
		return ns.Labels
	}
	all := labels.Set{}
	if ns != nil {
		maps.Copy(all, ns.Labels)
	}
	all[corev1.LabelMetadataName] = name
	return all
}
