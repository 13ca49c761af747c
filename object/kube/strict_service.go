package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
)

// EndpointSliceManager is the value of the managed-by label on the EndpointSlices that the cluster itself keeps.
const EndpointSliceManager = "endpointslice.mainstay.dev"

// keptByCluster says why nobody declares a Service, or where it leads: it is the cluster's own. Empty: it is not.
func keptByCluster(namespace, service string) string {
	switch {
	case service == "kubernetes" && (namespace == "" || namespace == metav1.NamespaceDefault):
		return "the Service kubernetes in namespace default leads to the cluster's own API and is not declared: give yours another name"
	case service == object.NameService && namespace == object.NameServiceNamespace:
		return "the Service kube-dns in namespace kube-system leads to the nodes, which answer names themselves, and is not declared: remove it, or give yours another name"
	}
	return ""
}

func strictService(svc *corev1.Service) field.ErrorList {
	errs := strictMeta(svc)
	if why := keptByCluster(svc.Namespace, svc.Name); why != "" {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), why))
	}
	for i, port := range svc.Spec.Ports {
		if port.NodePort != 0 && (port.NodePort < minNodePort || port.NodePort > maxNodePort) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port.NodePort,
				fmt.Sprintf("must be between %d and %d", minNodePort, maxNodePort)))
		}
	}
	return errs
}

// strictEndpointSlice refuses slices that nothing would ever read, and those that the endpoints controller would take for its own.
func strictEndpointSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := strictMeta(s)
	labels := field.NewPath("metadata", "labels")
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		errs = append(errs, field.Required(labels.Key(discoveryv1.LabelServiceName), "name the Service that the endpoints are of"))
	}
	if why := keptByCluster(s.Namespace, s.Labels[discoveryv1.LabelServiceName]); why != "" {
		errs = append(errs, field.Forbidden(labels.Key(discoveryv1.LabelServiceName), why))
	}
	if s.Labels[discoveryv1.LabelManagedBy] == EndpointSliceManager {
		errs = append(errs, field.Forbidden(labels.Key(discoveryv1.LabelManagedBy), EndpointSliceManager+" marks what the cluster itself keeps: use another value, or none"))
	}
	return errs
}
