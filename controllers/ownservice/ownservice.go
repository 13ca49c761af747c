// Package ownservice keeps the Services that are the cluster's own, and their EndpointSlices: default/kubernetes, by which Pods
// reach the API on whichever servers have said that Pods can reach them, and kube-system/kube-dns, by which they ask for names
// at whichever nodes are Ready. Both have fixed addresses in the Service range, and no repository declares them. Start at
// Controllers.
package ownservice

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// manager tells the slices from those of the endpoints controller.
const manager = "ownservice.mainstay.dev"

// Controllers returns one for each Service.
func Controllers() []engine.Controller {
	return []engine.Controller{
		{Name: "api-service", Workers: 1, Sources: sourcesOf(api, engine.Each(engine.To[*object.Server](api))), Reconcile: reconcileAPI},
		{Name: "name-service", Workers: 1, Sources: sourcesOf(names, engine.Each(engine.To[*corev1.Node](names))), Reconcile: reconcileNames},
	}
}

// sourcesOf look at the Service at key again when it, a slice of it, its range or what further tells of has changed.
func sourcesOf(key state.Key, further engine.Source) []engine.Source {
	return []engine.Source{
		further,
		engine.Each(engine.To[*object.Cluster](key)),
		engine.Each(func(s *corev1.Service) (state.Key, bool) { return key, state.KeyOf(s) == key }),
		engine.Each(func(s *discoveryv1.EndpointSlice) (state.Key, bool) {
			return key, s.Namespace == key.Namespace && s.Labels[discoveryv1.LabelServiceName] == key.Name
		}),
	}
}

// serviceRange is the cluster's.
func serviceRange(r state.Reader) (netip.Prefix, error) {
	cidr := kube.DefaultServiceCIDR
	for c := range state.List[*object.Cluster](r, "") {
		cidr = cmp.Or(c.Spec.ServiceCIDR, cidr)
	}
	services, err := netip.ParsePrefix(cidr)
	if err != nil {
		return services, fmt.Errorf("serviceCIDR %q of the Cluster is no range: correct mainstay.yaml", cidr)
	}
	return services, nil
}

// newService has all but ports.
func newService(key state.Key, labels map[string]string, address netip.Addr) *corev1.Service {
	single := corev1.IPFamilyPolicySingleStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: labels},
		Spec:       corev1.ServiceSpec{ClusterIP: address.String(), IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single},
	}
}

func newSlice(of state.Key, name string, endpoints []discoveryv1.Endpoint, ports ...discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: of.Namespace, Name: name, Labels: map[string]string{
			discoveryv1.LabelServiceName: of.Name, discoveryv1.LabelManagedBy: manager,
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints, Ports: ports,
	}
}

// write makes the Service and its slices as wanted, and removes other slices of it. What is right already it does not touch.
func write(tx *state.Txn, svc *corev1.Service, wanted []*discoveryv1.EndpointSlice) {
	kube.Default(svc)
	put(tx, svc, func(live *corev1.Service) bool {
		changed := *live
		changed.Labels, changed.Spec = svc.Labels, svc.Spec
		if equality.Semantic.DeepEqual(live.Spec, changed.Spec) && maps.Equal(live.Labels, changed.Labels) {
			return false
		}
		*live = changed
		return true
	})
	for _, s := range wanted {
		put(tx, s, func(live *discoveryv1.EndpointSlice) bool {
			changed := *live
			changed.Labels, changed.AddressType, changed.Endpoints, changed.Ports = s.Labels, s.AddressType, s.Endpoints, s.Ports
			if equality.Semantic.DeepEqual(*live, changed) {
				return false
			}
			*live = changed
			return true
		})
	}
	for s := range state.ListBy(tx, tables.SlicesByService, state.KeyOf(svc).String()) {
		if !slices.ContainsFunc(wanted, func(w *discoveryv1.EndpointSlice) bool { return w.Name == s.Name }) {
			tx.Delete(s)
		}
	}
}

// put creates what is not there, and otherwise writes what update makes of a copy of what is, if it says that it changed.
func put[T object.Object](tx *state.Txn, want T, update func(live T) bool) {
	before, ok := state.Get[T](tx, state.KeyOf(want))
	if !ok {
		tx.Create(want)
		return
	}
	if after := before.DeepCopyObject().(T); update(after) {
		tx.Update(after)
	}
}
