package kube

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsv1 "k8s.io/kubernetes/pkg/apis/apps/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryv1 "k8s.io/kubernetes/pkg/apis/discovery/v1"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingv1 "k8s.io/kubernetes/pkg/apis/networking/v1"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyv1 "k8s.io/kubernetes/pkg/apis/policy/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// groups add the groups whose kinds a repository may declare: their internal form, and the defaults and conversions of the
// stored one. Kubernetes' own scheme has all groups in all their versions, which is most of an API server.
var groups = []func(*runtime.Scheme) error{
	core.AddToScheme, corev1.AddToScheme,
	apps.AddToScheme, appsv1.AddToScheme,
	discovery.AddToScheme, discoveryv1.AddToScheme,
	networking.AddToScheme, networkingv1.AddToScheme,
	policy.AddToScheme, policyv1.AddToScheme,
}

// scheme defaults and converts. It is made once, when it is first needed.
var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range groups {
		if err := add(s); err != nil {
			panic(fmt.Sprintf("kube: %v", err)) // the program was put together wrongly
		}
	}
	return s
})

// internal converts obj to the form that Kubernetes' own code works on; Mainstay's own kinds have only one form.
// The result shares memory with obj.
func internal(obj object.Object) runtime.Object {
	gvk := object.KindOf(obj).GroupVersionKind
	if gvk.Group == object.GroupVersion.Group {
		return obj
	}
	gvk.Version = runtime.APIVersionInternal
	out, err := scheme().New(gvk)
	if err == nil {
		err = scheme().Convert(obj, out, nil)
	}
	if err != nil {
		panic(fmt.Sprintf("kube: %s has no internal form: %v: add its group to groups", gvk, err)) // every kind with rules has one: tested
	}
	return out
}
