// Package endpoints keeps for every Service with a selector the EndpointSlices that say where its Pods are. It writes only
// what differs. A slice that another party manages is left alone. Start at reconcile.
package endpoints

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// manager is the value of the managed-by label on our slices.
const manager = kube.EndpointSliceManager

const workers = 8

// Controller returns the EndpointSlice controller.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "endpoints",
		Workers: workers,
		Sources: []engine.Source{
			engine.Each(engine.Self[*corev1.Service]),
			engine.Each(ofSlice),
			engine.EachMany(ofPod),
		},
		Reconcile: reconcile,
	}
}

func ofSlice(s *discoveryv1.EndpointSlice) (state.Key, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return state.Key{Namespace: s.Namespace, Name: name}, name != "" && managed(s)
}

func ofPod(r state.Reader, pod *corev1.Pod, add func(state.Key)) {
	for svc := range state.List[*corev1.Service](r, pod.Namespace) {
		if selects(svc, pod) {
			add(state.KeyOf(svc))
		}
	}
}

// selects is asked for every Service of a namespace when a Pod there changes, so it compiles no selector.
func selects(svc *corev1.Service, pod *corev1.Pod) bool {
	for name, value := range svc.Spec.Selector {
		if have, ok := pod.Labels[name]; !ok || have != value {
			return false
		}
	}
	return len(svc.Spec.Selector) > 0
}

func managed(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == manager
}

func reconcile(tx *state.Txn, key state.Key, _ time.Time) (time.Duration, error) {
	present := slices.DeleteFunc(slices.Collect(state.ListBy(tx, tables.SlicesByService, key.String())),
		func(s *discoveryv1.EndpointSlice) bool { return !managed(s) })
	svc, ok := state.Get[*corev1.Service](tx, key)
	if !ok || svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		for _, s := range present {
			tx.Delete(s)
		}
		return 0, nil
	}
	var pods []*corev1.Pod
	for pod := range state.List[*corev1.Pod](tx, svc.Namespace) {
		if selects(svc, pod) && listed(pod) {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	write(tx, svc, present, byPorts(svc, pods))
	return 0, nil
}
