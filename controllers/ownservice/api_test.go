package ownservice

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func server(name, endpoint string) *object.Server {
	return &object.Server{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: object.ServerSpec{Endpoint: endpoint}}
}

func run(t *testing.T, store *state.Store) {
	t.Helper()
	statetest.Update(t, store, func(tx *state.Txn) {
		if _, err := reconcileAPI(tx, api, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
}

// leads lists where the Service's slices lead.
func leads(r state.Reader) map[string][]string {
	out := map[string][]string{}
	for s := range state.List[*discoveryv1.EndpointSlice](r, "default") {
		for _, e := range s.Endpoints {
			out[s.Name] = append(out[s.Name], e.Addresses...)
		}
	}
	return out
}

func TestServiceHasTheFirstAddressAndLeadsToEveryServer(t *testing.T) {
	store := statetest.New(t, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: object.ClusterSpec{ServiceCIDR: "10.7.0.0/16"}},
		server("a", "192.0.2.1:7443"), server("b", "192.0.2.2:7443"), server("c", ""))
	run(t, store)
	svc, ok := state.Get[*corev1.Service](store.View(), api)
	if !ok || svc.Spec.ClusterIP != "10.7.0.1" || len(svc.Spec.Ports) != 1 || svc.Spec.Ports[0].Port != 443 || svc.Spec.Ports[0].TargetPort.IntVal != 7443 {
		t.Fatalf("the Service is %+v", svc)
	}
	if diff := cmp.Diff(map[string][]string{"kubernetes": {"192.0.2.1", "192.0.2.2"}}, leads(store.View())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestServersThatComeMoveAndGoAreFollowed(t *testing.T) {
	store := statetest.New(t, server("a", "192.0.2.1:7443"), server("b", "192.0.2.2:7443"))
	run(t, store)
	statetest.Update(t, store, func(tx *state.Txn) {
		a, _ := state.Get[*object.Server](tx, state.Key{Name: "a"})
		tx.Delete(a)
		b, _ := state.Get[*object.Server](tx, state.Key{Name: "b"})
		moved := b.DeepCopy()
		moved.Spec.Endpoint = "192.0.2.9:7443"
		tx.Update(moved)
		tx.Create(server("c", "192.0.2.3:8443"))
	})
	run(t, store)
	want := map[string][]string{"kubernetes": {"192.0.2.9"}, "kubernetes-8443": {"192.0.2.3"}}
	if diff := cmp.Diff(want, leads(store.View())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	statetest.Update(t, store, func(tx *state.Txn) {
		c, _ := state.Get[*object.Server](tx, state.Key{Name: "c"})
		tx.Delete(c)
	})
	run(t, store)
	if diff := cmp.Diff(map[string][]string{"kubernetes": {"192.0.2.9"}}, leads(store.View())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNothingNewWritesNothing(t *testing.T) {
	store := statetest.New(t, server("a", "192.0.2.1:7443"))
	run(t, store)
	before := store.View().Version
	run(t, store)
	if after := store.View().Version; after != before {
		t.Errorf("version %d, want still %d", after, before)
	}
}
