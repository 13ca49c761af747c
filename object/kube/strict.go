package kube

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"

	"github.com/mainstay-cluster/mainstay/object"
)

// What Kubernetes lets through and a node would stumble over, or what its allocators would refuse after validation.
const (
	// A week: longer waits are typing errors, and the number must survive being turned into nanoseconds.
	maxGraceSeconds = 7 * 24 * 60 * 60
	// As many Pods as the store is made for; one typing error must not fill it.
	maxReplicas = 50_000
	// Linux' MAX_ARG_STRLEN: the kernel refuses to start a process with one longer NAME=value string.
	maxEnvBytes = 128 << 10
	// kube-apiserver's default --service-node-port-range.
	minNodePort, maxNodePort = 30000, 32767
)

// reservedPrefix is Mainstay's own in labels and annotations: agents and servers believe what stands there.
const reservedPrefix = "mainstay.dev/"

func strictMeta[T object.Object](obj T) field.ErrorList {
	return reservedKeys(field.NewPath("metadata"), obj.GetLabels(), obj.GetAnnotations())
}

func reservedKeys(at *field.Path, labels, annotations map[string]string) field.ErrorList {
	errs := reservedIn(at.Child("labels"), labels)
	return append(errs, reservedIn(at.Child("annotations"), annotations)...)
}

func reservedIn(at *field.Path, keys map[string]string) (errs field.ErrorList) {
	for key := range keys {
		if strings.HasPrefix(key, reservedPrefix) {
			errs = append(errs, field.Forbidden(at.Key(key), "keys under "+reservedPrefix+" are Mainstay's own: use another prefix"))
		}
		if key == corev1.LastAppliedConfigAnnotation {
			errs = append(errs, field.Forbidden(at.Key(key), "is kubectl's record of an object, which may hold what a Secret hides: remove it"))
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}

func strictPod(pod *corev1.Pod) field.ErrorList {
	return append(strictMeta(pod), strictPodSpec(field.NewPath("spec"), &pod.Spec)...)
}

func strictReplicaSet(rs *appsv1.ReplicaSet) field.ErrorList {
	errs := append(strictMeta(rs), strictReplicas(rs.Spec.Replicas)...)
	return append(errs, strictTemplate(&rs.Spec.Template)...)
}

func strictDeployment(d *appsv1.Deployment) field.ErrorList {
	errs := append(strictMeta(d), strictReplicas(d.Spec.Replicas)...)
	return append(errs, strictTemplate(&d.Spec.Template)...)
}

func strictReplicas(replicas *int32) field.ErrorList {
	if replicas == nil || *replicas <= maxReplicas {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), *replicas, fmt.Sprintf("must be at most %d", maxReplicas))}
}

func strictTemplate(template *corev1.PodTemplateSpec) field.ErrorList {
	at := field.NewPath("spec", "template")
	return append(strictTemplateMeta(at.Child("metadata"), template.ObjectMeta), strictPodSpec(at.Child("spec"), &template.Spec)...)
}

func strictTemplateMeta(at *field.Path, meta metav1.ObjectMeta) field.ErrorList {
	return reservedKeys(at, meta.Labels, meta.Annotations)
}

func strictPodSpec(at *field.Path, spec *corev1.PodSpec) (errs field.ErrorList) {
	if grace := spec.TerminationGracePeriodSeconds; grace != nil && (*grace < 0 || *grace > maxGraceSeconds) {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *grace, fmt.Sprintf("must be between 0 and %d (a week)", maxGraceSeconds)))
	}
	errs = append(errs, strictDNS(at, spec)...)
	for i := range spec.InitContainers {
		errs = append(errs, strictContainer(at.Child("initContainers").Index(i), &spec.InitContainers[i])...)
	}
	for i := range spec.Containers {
		errs = append(errs, strictContainer(at.Child("containers").Index(i), &spec.Containers[i])...)
	}
	return errs
}

// strictDNS refuses nameservers that no resolver would ask, since the cluster's comes first.
func strictDNS(at *field.Path, spec *corev1.PodSpec) field.ErrorList {
	cluster := spec.DNSPolicy == corev1.DNSClusterFirst && !spec.HostNetwork || spec.DNSPolicy == corev1.DNSClusterFirstWithHostNet
	if !cluster || spec.DNSConfig == nil || len(spec.DNSConfig.Nameservers) < corevalidation.MaxDNSNameservers {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("dnsConfig", "nameservers"), len(spec.DNSConfig.Nameservers), fmt.Sprintf(
		"resolvers ask %d nameservers, of which dnsPolicy %s takes one: name fewer, or use dnsPolicy None", corevalidation.MaxDNSNameservers, spec.DNSPolicy))}
}

func strictContainer(at *field.Path, c *corev1.Container) (errs field.ErrorList) {
	if c.Image != "" {
		if _, err := reference.ParseNormalizedNamed(c.Image); err != nil {
			errs = append(errs, field.Invalid(at.Child("image"), c.Image, "is not an image: want [registry/]name[:tag][@digest] in lower case, without a scheme"))
		}
	}
	errs = append(errs, strictEnv(at.Child("env"), c.Env)...)
	for i, mount := range c.VolumeMounts {
		errs = append(errs, strictMountPath(at.Child("volumeMounts").Index(i).Child("mountPath"), mount.MountPath)...)
	}
	return errs
}

func strictEnv(at *field.Path, env []corev1.EnvVar) (errs field.ErrorList) {
	seen := make(map[string]bool, len(env))
	for i, e := range env {
		if seen[e.Name] && e.Name != "" {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), e.Name))
		}
		seen[e.Name] = true
		if size := len(e.Name) + len("=") + len(e.Value) + 1; size > maxEnvBytes {
			errs = append(errs, field.TooLong(at.Index(i).Child("value"), "", maxEnvBytes-len(e.Name)-2))
		}
	}
	return errs
}

func strictMountPath(at *field.Path, p string) field.ErrorList {
	switch {
	case p == "":
		return nil // Kubernetes says that it is required
	case !path.IsAbs(p):
		return field.ErrorList{field.Invalid(at, p, "must be an absolute path")}
	case path.Clean(p) == "/":
		return field.ErrorList{field.Invalid(at, p, "must not be the container's root: mount below it")}
	case slices.Contains(strings.Split(p, "/"), ".."):
		return field.ErrorList{field.Invalid(at, p, `must not contain ".."`)}
	}
	return nil
}
