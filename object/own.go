package object

import (
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The Service that answers names for Pods whose own node does not, as long as another one does. It is the cluster's own.
const (
	NameServiceNamespace = metav1.NamespaceSystem
	NameService          = "kube-dns"
)

// NameServiceAddress is that Service's: the tenth of the Service range, where people who know Kubernetes look for it.
func NameServiceAddress(services netip.Prefix) netip.Addr {
	const tenth = 10
	address := services.Masked().Addr()
	for range tenth {
		address = address.Next()
	}
	return address
}

// OwnNamespaces are those that exist whether they are declared or not.
func OwnNamespaces() []string { return []string{metav1.NamespaceDefault, metav1.NamespaceSystem} }

// IsOwnNamespace tells whether a namespace exists without being declared.
func IsOwnNamespace(name string) bool { return slices.Contains(OwnNamespaces(), name) }

func isOwnNamespace(obj Object) bool { return IsOwnNamespace(obj.GetName()) }
