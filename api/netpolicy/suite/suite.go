// Package suite is Kubernetes' network-policy suite as data: the clusters its tests make, and who must reach whom in each, by
// reading NetworkPolicies as their documentation does, Pod by Pod. It knows nothing of how Mainstay resolves or enforces them,
// so that it can judge both. It is used by tests only. Start at Cases.
package suite

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// Range is where the Pods' addresses are: x/a has .10, x/b .11, and so on to z/c with .18.
const Range = "10.244.7.0/24"

// Cluster is three Namespaces of three Pods and some policies. Each Pod serves TCP and UDP at ports 80 and 81.
type Cluster struct {
	Name       string
	Namespaces []*corev1.Namespace
	Pods       []*corev1.Pod
	Policies   []*networkingv1.NetworkPolicy
}

// Probe is a try of one Pod to reach another.
type Probe struct {
	From, To *corev1.Pod
	Protocol corev1.Protocol
	Port     int32
}

func (p Probe) String() string {
	return fmt.Sprintf("%s/%s to %s/%s %s %d", p.From.Namespace, p.From.Name, p.To.Namespace, p.To.Name, p.Protocol, p.Port)
}

// Cases are clusters, each as one test of Kubernetes' suite makes it. Every call makes new ones.
func Cases() []Cluster {
	var all []Cluster
	for _, c := range cases {
		all = append(all, c.cluster())
	}
	return all
}

// Probes are all tries of all Pods to reach all others.
func (c Cluster) Probes() iter.Seq[Probe] {
	return func(yield func(Probe) bool) {
		for _, from := range c.Pods {
			for _, to := range c.Pods {
				for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
					for _, port := range []int32{80, 81} {
						if from != to && !yield(Probe{from, to, protocol, port}) {
							return
						}
					}
				}
			}
		}
	}
}

// written is a case as it stands in the table.
type written struct {
	name     string
	labels   map[string]string // key=value, for "ns" or "ns/pod": what it has beside its own
	swapped  string            // "ns/pod": one where the names of ports 80 and 81 are exchanged
	policies string            // YAML: specs by namespace/name
}

func (w written) cluster() Cluster {
	c := Cluster{Name: w.name}
	for i, namespace := range []string{"x", "y", "z"} {
		c.Namespaces = append(c.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: namespace, Labels: w.with(namespace, map[string]string{corev1.LabelMetadataName: namespace, "ns": namespace}),
		}})
		for j, name := range []string{"a", "b", "c"} {
			pod := newPod(namespace, name, fmt.Sprintf("10.244.7.%d", 10+3*i+j))
			pod.Labels = w.with(namespace+"/"+name, pod.Labels)
			if w.swapped == namespace+"/"+name {
				swapPorts(pod)
			}
			c.Pods = append(c.Pods, pod)
		}
	}
	specs := map[string]networkingv1.NetworkPolicySpec{}
	if err := yaml.UnmarshalStrict([]byte(w.policies), &specs); err != nil {
		panic(fmt.Sprintf("suite: policies of %q: %v", w.name, err))
	}
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		namespace, name, _ := strings.Cut(key, "/")
		c.Policies = append(c.Policies, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: specs[key]})
	}
	return c
}

func (w written) with(who string, labels map[string]string) map[string]string {
	if key, value, ok := strings.Cut(w.labels[who], "="); ok {
		labels[key] = value
	}
	return labels
}

func swapPorts(pod *corev1.Pod) {
	for i := range pod.Spec.Containers {
		port := &pod.Spec.Containers[i].Ports[0]
		port.ContainerPort = 80 + 81 - port.ContainerPort
	}
}

func newPod(namespace, name, address string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(namespace + name), Labels: map[string]string{"pod": name},
	}}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		for _, port := range []int32{80, 81} {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
				Name: fmt.Sprintf("c%d%s", port, strings.ToLower(string(protocol))), Image: "serve",
				Ports: []corev1.ContainerPort{{Name: fmt.Sprintf("serve-%d-%s", port, strings.ToLower(string(protocol))), ContainerPort: port, Protocol: protocol}},
			})
		}
	}
	return pod
}
