package plan_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// An allocated address and port are left alone by a commit that changes something else, and given back by one that
// changes the Service's type.
func TestWhatWasAllocatedToAService(t *testing.T) {
	const web = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default}, spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}}"
	key := state.Key{Namespace: "default", Name: "web"}
	s := statetest.New(t)
	activate(t, s, tree{{"web.yaml", web}}, commitA)
	statetest.Update(t, s, func(tx *state.Txn) {
		service, _ := state.Get[*corev1.Service](tx, key)
		service = service.DeepCopy()
		service.Spec.ClusterIP, service.Spec.ClusterIPs = "10.96.0.7", []string{"10.96.0.7"}
		service.Spec.IPFamilies, service.Spec.IPFamilyPolicy = []corev1.IPFamily{"IPv4"}, new(corev1.IPFamilyPolicySingleStack)
		service.Spec.Ports[0].NodePort = 30080
		tx.Update(service)
	})
	get := func() corev1.ServiceSpec {
		service, _ := state.Get[*corev1.Service](s.View(), key)
		return service.Spec
	}
	activate(t, s, tree{{"web.yaml", strings.Replace(web, "app: web", "app: shop", 1)}}, commitB)
	if got := get(); got.ClusterIP != "10.96.0.7" || got.Ports[0].NodePort != 30080 || got.Selector["app"] != "shop" {
		t.Errorf("after another selector: %+v", got)
	}
	activate(t, s, tree{{"web.yaml", strings.Replace(web, "type: NodePort", "type: ClusterIP", 1)}}, commitB)
	if got := get(); got.ClusterIP != "10.96.0.7" || got.Ports[0].NodePort != 0 {
		t.Errorf("as ClusterIP: %+v", got)
	}
	outside := "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default}, spec: {type: ExternalName, externalName: example.com}}"
	activate(t, s, tree{{"web.yaml", outside}}, commitB)
	if got := get(); got.ClusterIP != "" || got.ExternalName != "example.com" || len(got.Ports) != 0 {
		t.Errorf("as ExternalName: %+v", got)
	}
}
