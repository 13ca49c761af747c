package endpoints

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// perSlice is how many endpoints a slice holds at most: Kubernetes' number.
const perSlice = 100

// maxPrefix leaves room for a dash and five random characters in a slice's name.
const maxPrefix = 57

// write brings the slices of svc in line with groups. An endpoint stays in the slice that it is in, so that one Pod's
// change rewrites one slice.
func write(tx *state.Txn, svc *corev1.Service, present []*discoveryv1.EndpointSlice, groups []group) {
	if len(groups) == 0 {
		keepOne(tx, svc, present)
		return
	}
	unused := slices.Clone(present)
	for _, g := range groups {
		var mine []*discoveryv1.EndpointSlice
		unused = slices.DeleteFunc(unused, func(s *discoveryv1.EndpointSlice) bool {
			if s.AddressType != discoveryv1.AddressTypeIPv4 || !apiequality.Semantic.DeepEqual(s.Ports, g.ports) {
				return false
			}
			mine = append(mine, s)
			return true
		})
		unused = append(unused, writeGroup(tx, svc, mine, g)...)
	}
	for _, s := range unused {
		tx.Delete(s)
	}
}

// keepOne leaves a Service without endpoints one slice that says so, as Kubernetes does: readers tell it from a Service
// that nobody has looked at yet.
func keepOne(tx *state.Txn, svc *corev1.Service, present []*discoveryv1.EndpointSlice) {
	if len(present) == 0 {
		tx.Create(build(svc, nil, nil))
		return
	}
	rewrite(tx, svc, present[0], nil)
	for _, s := range present[1:] {
		tx.Delete(s)
	}
}

// writeGroup keeps, fills up and adds slices of one group. It returns those that ended up empty.
func writeGroup(tx *state.Txn, svc *corev1.Service, mine []*discoveryv1.EndpointSlice, g group) (empty []*discoveryv1.EndpointSlice) {
	fresh := map[types.UID]discoveryv1.Endpoint{}
	for _, e := range g.endpoints {
		fresh[e.TargetRef.UID] = e
	}
	contents := make([][]discoveryv1.Endpoint, len(mine))
	for i, s := range mine {
		for _, e := range s.Endpoints {
			if now, ok := fresh[uidOf(e)]; ok {
				contents[i] = append(contents[i], now)
				delete(fresh, uidOf(e))
			}
		}
	}
	i := 0
	for _, e := range g.endpoints {
		if _, ok := fresh[e.TargetRef.UID]; !ok {
			continue
		}
		for i < len(contents) && len(contents[i]) >= perSlice {
			i++
		}
		if i == len(contents) {
			contents = append(contents, nil)
		}
		contents[i] = append(contents[i], e)
	}
	for i, endpoints := range contents {
		switch {
		case i >= len(mine):
			tx.Create(build(svc, g.ports, endpoints))
		case len(endpoints) == 0:
			empty = append(empty, mine[i])
		default:
			rewrite(tx, svc, mine[i], endpoints)
		}
	}
	return empty
}

func uidOf(e discoveryv1.Endpoint) types.UID {
	if e.TargetRef == nil {
		return ""
	}
	return e.TargetRef.UID
}

func build(svc *corev1.Service, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       svc.Namespace,
			GenerateName:    svc.Name[:min(len(svc.Name), maxPrefix)] + "-",
			Labels:          labelsOf(svc),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, object.KindOf(svc).GroupVersionKind)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       ports,
		Endpoints:   endpoints,
	}
}

func rewrite(tx *state.Txn, svc *corev1.Service, s *discoveryv1.EndpointSlice, endpoints []discoveryv1.Endpoint) {
	changed := *s // what is replaced need not be copied: there may be very many endpoints
	changed.Labels, changed.Endpoints = labelsOf(svc), endpoints
	changed.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(svc, object.KindOf(svc).GroupVersionKind)}
	tx.Update(&changed)
}

// labelsOf are the Service's labels and Kubernetes' own.
func labelsOf(svc *corev1.Service) map[string]string {
	set := maps.Clone(svc.Labels)
	if set == nil {
		set = map[string]string{}
	}
	set[discoveryv1.LabelServiceName] = svc.Name
	set[discoveryv1.LabelManagedBy] = manager
	delete(set, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		set[corev1.IsHeadlessService] = ""
	}
	return set
}
