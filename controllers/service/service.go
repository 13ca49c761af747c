// Package service gives Services what an API server allocates: cluster addresses and node ports. Both follow from the
// Service's namespace and name, so a cluster rebuilt from its repository has the same ones. It routes nothing.
// Start at reconcile.
package service

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
)

// burst is how many Services one transaction changes at most.
const burst = 500

// defaultCIDR is where cluster addresses come from when no Cluster says.
const defaultCIDR = "10.96.0.0/16"

// everything is the one key: what a Service may have depends on what all others have, so one worker looks at all of them.
var everything = state.Key{Name: "services"}

// Controller returns the Service controller.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "service",
		Workers: 1,
		Sources: []engine.Source{
			engine.Each(engine.To[*corev1.Service](everything)),
			engine.Each(engine.To[*object.Cluster](everything)),
		},
		Reconcile: reconcile,
	}
}

func reconcile(tx *state.Txn, _ state.Key, now time.Time) (time.Duration, error) {
	cidr, err := serviceCIDR(tx)
	if err != nil {
		return 0, err
	}
	taken := takenBy(state.List[*corev1.Service](tx, ""))
	var changed []*corev1.Service
	for svc := range state.List[*corev1.Service](tx, "") {
		if svc.DeletionTimestamp == nil && !settled(svc) {
			changed = append(changed, svc)
		}
	}
	for _, svc := range changed[:min(len(changed), burst)] {
		fill(tx, svc, cidr, taken, now)
	}
	if len(changed) > burst {
		return engine.Soon, nil
	}
	return 0, nil
}

func serviceCIDR(r state.Reader) (netip.Prefix, error) {
	text := defaultCIDR
	for c := range state.List[*object.Cluster](r, "") {
		if c.Spec.ServiceCIDR != "" {
			text = c.Spec.ServiceCIDR
		}
	}
	cidr, err := netip.ParsePrefix(text)
	if err != nil || !cidr.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("serviceCIDR %q of the Cluster is no IPv4 range: correct mainstay.yaml", text)
	}
	return cidr.Masked(), nil
}

// fill allocates what svc lacks. When nothing is free it says so in an Event and leaves that part empty.
func fill(tx *state.Txn, svc *corev1.Service, cidr netip.Prefix, taken *taken, now time.Time) {
	svc = svc.DeepCopy()
	var problem error
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = "", nil, nil, nil
	} else {
		problem = fillAddress(&svc.Spec, state.KeyOf(svc), cidr, taken)
	}
	if err := fillPorts(&svc.Spec, state.KeyOf(svc), taken); err != nil {
		problem = err
	}
	if problem != nil && !said(tx, svc) {
		event.Emit(tx, event.Event{
			About: svc, From: "service-controller", Type: corev1.EventTypeWarning, Reason: "AllocationFailed", Message: problem.Error(),
		}, now)
	}
	tx.Update(svc)
}
