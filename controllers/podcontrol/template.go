package podcontrol

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// maxGeneratedPrefix leaves room for five random characters in a name of 63.
const maxGeneratedPrefix = 58

// FromTemplate makes a Pod of a template, owned by its controller and named after it. It has the defaults that
// Kubernetes gives to Pods but not to templates, and the status that it gives to a new Pod.
func FromTemplate(template *corev1.PodTemplateSpec, owner object.Object) *corev1.Pod {
	prefix := owner.GetName() + "-"
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.GetNamespace(),
			GenerateName:    prefix[:min(len(prefix), maxGeneratedPrefix)],
			Labels:          maps.Clone(template.Labels),
			Annotations:     maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, object.KindOf(owner).GroupVersionKind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	defaultPod(&pod.Spec)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qosOf(&pod.Spec)}
	return pod
}

// defaultPod is SetDefaults_Pod of Kubernetes, which templates never pass through.
func defaultPod(spec *corev1.PodSpec) {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			requestLimits(&containers[i].Resources)
			if spec.HostNetwork {
				hostPorts(containers[i].Ports)
			}
		}
	}
	if spec.EnableServiceLinks == nil {
		links := corev1.DefaultEnableServiceLinks
		spec.EnableServiceLinks = &links
	}
}

func requestLimits(r *corev1.ResourceRequirements) {
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; ok {
			continue
		}
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = limit.DeepCopy()
	}
}

func hostPorts(ports []corev1.ContainerPort) {
	for i := range ports {
		if ports[i].HostPort == 0 {
			ports[i].HostPort = ports[i].ContainerPort
		}
	}
}

// qosOf is Kubernetes' class: Guaranteed if every container's cpu and memory is limited to what it requests, BestEffort if
// none asks for any, else Burstable.
func qosOf(spec *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, asked := true, false
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, limit := containers[i].Resources.Requests[name], containers[i].Resources.Limits[name]
				asked = asked || !request.IsZero() || !limit.IsZero()
				guaranteed = guaranteed && !limit.IsZero() && request.Cmp(limit) == 0
			}
		}
	}
	switch {
	case !asked:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}
