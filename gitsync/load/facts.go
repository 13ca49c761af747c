package load

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/object"
)

// facts are what one object says that concerns others, each with its place.
type facts struct {
	namespace position // where the namespace is named
	refs      []reference
	owns      *ownership
	claims    []claim
}

// reference is a mention of an object that must be declared for a container to start.
type reference struct {
	kind, name, key string // key is "" where the whole object is meant
	field           string
	at              position
}

// ownership is what Pods a workload takes for its own.
type ownership struct {
	selector labels.Selector
	wants    []string // "key=value" for the part of the selector that is that simple
	template labels.Set
	has      []string // "key=value" for each label of the template
	at       position
}

// claim is something only one Service of a cluster can have.
type claim struct {
	what  string
	field string
	at    position
	// outside is an address that must not be one of the cluster's own.
	outside string
}

func factsOf(obj object.Object, v *value) facts {
	_, at, _ := v.place("metadata.namespace")
	f := facts{namespace: at}
	switch o := obj.(type) {
	case *corev1.Pod:
		f.podSpec("spec", &o.Spec, v)
	case *appsv1.ReplicaSet:
		f.workload(o.Spec.Selector, &o.Spec.Template, v)
	case *appsv1.Deployment:
		f.workload(o.Spec.Selector, &o.Spec.Template, v)
	case *corev1.Service:
		f.service(o, v)
	}
	return f
}

func (f *facts) workload(selector *metav1.LabelSelector, template *corev1.PodTemplateSpec, v *value) {
	f.podSpec("spec.template.spec", &template.Spec, v)
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil || selector == nil || s.Empty() {
		return // validation has said so
	}
	_, at, _ := v.place("spec.selector")
	f.owns = &ownership{selector: s, wants: pairs(selector.MatchLabels), template: template.Labels, has: pairs(template.Labels), at: at}
}

func pairs(labels map[string]string) []string {
	list := make([]string, 0, len(labels))
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	return list
}

func (f *facts) podSpec(at string, spec *corev1.PodSpec, v *value) {
	for i := range spec.InitContainers {
		f.container(fmt.Sprintf("%s.initContainers[%d]", at, i), &spec.InitContainers[i], v)
	}
	for i := range spec.Containers {
		f.container(fmt.Sprintf("%s.containers[%d]", at, i), &spec.Containers[i], v)
	}
}

func (f *facts) container(at string, c *corev1.Container, v *value) {
	for i, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		field := fmt.Sprintf("%s.env[%d].valueFrom.", at, i)
		if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil && !isTrue(ref.Optional) {
			f.refer("ConfigMap", ref.Name, ref.Key, field+"configMapKeyRef", v)
		}
		if ref := e.ValueFrom.SecretKeyRef; ref != nil && !isTrue(ref.Optional) {
			f.refer("Secret", ref.Name, ref.Key, field+"secretKeyRef", v)
		}
	}
	for i, e := range c.EnvFrom {
		field := fmt.Sprintf("%s.envFrom[%d].", at, i)
		if ref := e.ConfigMapRef; ref != nil && !isTrue(ref.Optional) {
			f.refer("ConfigMap", ref.Name, "", field+"configMapRef", v)
		}
		if ref := e.SecretRef; ref != nil && !isTrue(ref.Optional) {
			f.refer("Secret", ref.Name, "", field+"secretRef", v)
		}
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

func (f *facts) refer(kind, name, key, field string, v *value) {
	if name == "" {
		return // validation has said so
	}
	_, at, _ := v.place(field + ".name")
	f.refs = append(f.refs, reference{kind: kind, name: name, key: key, field: field, at: at})
}

func (f *facts) service(svc *corev1.Service, v *value) {
	if ip := svc.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
		_, at, _ := v.place("spec.clusterIP")
		f.claims = append(f.claims, claim{what: "clusterIP " + ip, field: "spec.clusterIP", at: at})
	}
	for i, port := range svc.Spec.Ports {
		if port.NodePort == 0 {
			continue
		}
		field := fmt.Sprintf("spec.ports[%d].nodePort", i)
		_, at, _ := v.place(field)
		f.claims = append(f.claims, claim{what: fmt.Sprintf("nodePort %d/%s", port.NodePort, port.Protocol), field: field, at: at})
	}
	for i, ip := range svc.Spec.ExternalIPs {
		field := fmt.Sprintf("spec.externalIPs[%d]", i)
		_, at, _ := v.place(field)
		for _, port := range svc.Spec.Ports {
			f.claims = append(f.claims, claim{what: fmt.Sprintf("externalIP %s:%d/%s", ip, port.Port, port.Protocol), field: field, at: at, outside: ip})
		}
	}
}
