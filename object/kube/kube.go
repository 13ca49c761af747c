// Package kube gives Mainstay's kinds what an API server gives them: Kubernetes' own defaults and validation, by
// calling Kubernetes' own code, and its table columns, and says which fields Mainstay carries out. It is the only importer of
// k8s.io/kubernetes; it keeps nothing and talks to nobody. Start at Validate.
package kube

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
)

// Default fills in, in place, every field of obj that Kubernetes gives a default; of a Cluster, Mainstay's own.
// obj must not be shared yet. What an API server allocates (a clusterIP, a node port) stays empty.
func Default(obj object.Object) {
	if c, ok := obj.(*object.Cluster); ok {
		defaultCluster(c)
		return
	}
	scheme().Default(obj)
	// An API server does this between defaults and validation.
	if svc, ok := obj.(*corev1.Service); ok && svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
}

// Validate says what an API server would say of creating obj, which must have its defaults, and where Mainstay is
// stricter because Docker or the cluster could not carry out what Kubernetes lets through. It is nil if all is well.
// obj is only read. Errors are in a fixed order and may hold values of obj: print them with Message.
func Validate(obj object.Object) field.ErrorList {
	rules := rulesFor(obj)
	if rules.create == nil {
		return nil
	}
	errs := rules.create(internal(obj))
	if rules.strict != nil {
		errs = append(errs, rules.strict(obj)...)
	}
	return errs
}

// ValidateUpdate says what an API server would say of replacing old by obj: all of Validate, and what must not change.
// obj need not carry what the store gives (uid, resourceVersion, creationTimestamp, status). Both are only read.
func ValidateUpdate(obj, old object.Object) field.ErrorList {
	rules := rulesFor(obj)
	if rules.update == nil {
		return Validate(obj)
	}
	obj, old = obj.DeepCopyObject().(object.Object), old.DeepCopyObject().(object.Object)
	carryOver(obj, old)
	errs := rules.update(internal(obj), internal(old))
	if rules.strict != nil {
		errs = append(errs, rules.strict(obj)...)
	}
	return errs
}

// carryOver gives obj the metadata that only the store sets, so that its absence is not taken for a change.
func carryOver(obj, old metav1.Object) {
	obj.SetUID(old.GetUID())
	obj.SetResourceVersion(old.GetResourceVersion())
	if old.GetResourceVersion() == "" {
		obj.SetResourceVersion("1")
		old.SetResourceVersion("1")
	}
	obj.SetGeneration(old.GetGeneration())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetManagedFields(old.GetManagedFields())
}
