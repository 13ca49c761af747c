package kube

import (
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"

	"github.com/mainstay-cluster/mainstay/object"
)

// The ranges a cluster has if its repository says nothing: those of kubeadm with flannel, so that examples fit.
const (
	DefaultPodCIDR     = "10.244.0.0/16"
	DefaultServiceCIDR = "10.96.0.0/16"
)

// DefaultEvictAfter is Kubernetes' 300 seconds; a week is a typing error.
const (
	DefaultEvictAfter = 5 * time.Minute
	maxEvictAfter     = 7 * 24 * time.Hour
)

// nodeBits is the size of the part of podCIDR that each node takes.
const nodeBits = 24

func defaultCluster(c *object.Cluster) {
	if c.Spec.PodCIDR == "" {
		c.Spec.PodCIDR = DefaultPodCIDR
	}
	if c.Spec.ServiceCIDR == "" {
		c.Spec.ServiceCIDR = DefaultServiceCIDR
	}
	if c.Spec.EvictAfter == nil {
		c.Spec.EvictAfter = &metav1.Duration{Duration: DefaultEvictAfter}
	}
}

func validateCluster(c *object.Cluster) field.ErrorList {
	errs := corevalidation.ValidateObjectMeta(&c.ObjectMeta, false, clusterName, field.NewPath("metadata"))
	errs = append(errs, strictMeta(c)...)
	spec := field.NewPath("spec")
	pods, bad := parseCIDR(spec.Child("podCIDR"), c.Spec.PodCIDR, nodeBits)
	errs = append(errs, bad...)
	// A /28 leaves a dozen addresses for Services: fewer is a typing error.
	services, bad := parseCIDR(spec.Child("serviceCIDR"), c.Spec.ServiceCIDR, 28)
	errs = append(errs, bad...)
	if pods.IsValid() && services.IsValid() && pods.Overlaps(services) {
		errs = append(errs, field.Invalid(spec.Child("serviceCIDR"), c.Spec.ServiceCIDR, "must not overlap podCIDR "+c.Spec.PodCIDR))
	}
	if after := c.Spec.EvictAfter; after != nil && (after.Duration < 0 || after.Duration > maxEvictAfter) {
		errs = append(errs, field.Invalid(spec.Child("evictAfter"), after.Duration.String(), "must be between 0s and 168h, such as 5m"))
	}
	return errs
}

func updateCluster(c, old *object.Cluster) field.ErrorList {
	errs := corevalidation.ValidateObjectMetaUpdate(&c.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	errs = append(errs, corevalidation.ValidateImmutableField(c.Spec.PodCIDR, old.Spec.PodCIDR, field.NewPath("spec", "podCIDR"))...)
	errs = append(errs, corevalidation.ValidateImmutableField(c.Spec.ServiceCIDR, old.Spec.ServiceCIDR, field.NewPath("spec", "serviceCIDR"))...)
	return append(errs, validateCluster(c)...)
}

func clusterName(name string, _ bool) []string { return validation.IsDNS1123Label(name) }

// parseCIDR wants a private-looking IPv4 range written with its first address, with at least the room of a /bits.
func parseCIDR(at *field.Path, text string, bits int) (netip.Prefix, field.ErrorList) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		return netip.Prefix{}, field.ErrorList{field.Invalid(at, text, "must be an IPv4 range such as 10.244.0.0/16")}
	case p.Masked() != p:
		return netip.Prefix{}, field.ErrorList{field.Invalid(at, text, "must begin at its first address: "+p.Masked().String())}
	case p.Bits() > bits || p.Bits() < 8:
		return netip.Prefix{}, field.ErrorList{field.Invalid(at, text, fmt.Sprintf("must be between a /8 and a /%d", bits))}
	}
	return p, nil
}
