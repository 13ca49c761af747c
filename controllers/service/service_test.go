package service

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func serviceOf(name string, spec corev1.ServiceSpec) *corev1.Service {
	if spec.Ports == nil {
		spec.Ports = []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}
	}
	if spec.Type == "" {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: spec}
}

func settle(t *testing.T, store *state.Store) {
	t.Helper()
	if err := engine.Settle(t.Context(), store, []engine.Controller{Controller()}, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func get(store *state.Store, name string) *corev1.Service {
	svc, _ := state.Get[*corev1.Service](store.View(), state.Key{Namespace: "default", Name: name})
	return svc
}

func TestAddressesAreDistinctInRangeAndTheSameAfterARebuild(t *testing.T) {
	const n = 700
	build := func() map[string]string {
		store := statetest.New(t, serviceOf("named", corev1.ServiceSpec{ClusterIP: "10.96.0.10"}))
		for i := range n {
			statetest.Put(t, store, serviceOf(fmt.Sprint("s", i), corev1.ServiceSpec{}))
		}
		settle(t, store)
		found := map[string]string{}
		for svc := range state.List[*corev1.Service](store.View(), "") {
			addr, err := netip.ParseAddr(svc.Spec.ClusterIP)
			if err != nil || !netip.MustParsePrefix(defaultCIDR).Contains(addr) {
				t.Fatalf("%s has address %q", svc.Name, svc.Spec.ClusterIP)
			}
			if svc.Spec.ClusterIPs[0] != svc.Spec.ClusterIP || svc.Spec.IPFamilies[0] != corev1.IPv4Protocol || *svc.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
				t.Fatalf("%s: %+v", svc.Name, svc.Spec)
			}
			if other, taken := found[svc.Spec.ClusterIP]; taken {
				t.Fatalf("%s and %s share %s", svc.Name, other, svc.Spec.ClusterIP)
			}
			found[svc.Spec.ClusterIP] = svc.Name
		}
		if found["10.96.0.10"] != "named" {
			t.Errorf("the address that the repository names went to %q", found["10.96.0.10"])
		}
		return found
	}
	first, second := build(), build()
	for addr, name := range first {
		if second[addr] != name {
			t.Fatalf("%s was %s, after the rebuild it is %s", addr, name, second[addr])
		}
	}
}

func TestWhatEachTypeGets(t *testing.T) {
	for name, tc := range map[string]struct {
		spec     corev1.ServiceSpec
		address  string // "*" for any
		nodePort bool
	}{
		"cluster":  {corev1.ServiceSpec{}, "*", false},
		"headless": {corev1.ServiceSpec{ClusterIP: "None"}, "None", false},
		"node":     {corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}, "*", true},
		"external": {corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "a.b"}, "", false},
		"was-node": {corev1.ServiceSpec{Ports: []corev1.ServicePort{{Protocol: "TCP", Port: 80, NodePort: 30080}}}, "*", false},
		"was-cluster": {corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "a.b",
			ClusterIP: "10.96.3.4", ClusterIPs: []string{"10.96.3.4"}}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(t, serviceOf("s", tc.spec))
			settle(t, store)
			svc := get(store, "s")
			if got := svc.Spec.ClusterIP; got != tc.address && (tc.address != "*" || got == "" || got == "None") {
				t.Errorf("address %q, want %q", got, tc.address)
			}
			if got := svc.Spec.Ports[0].NodePort; (got != 0) != tc.nodePort {
				t.Errorf("node port %d", got)
			}
			before := store.View().Version
			settle(t, store)
			if store.View().Version != before {
				t.Error("a Service that has all it needs was written again")
			}
		})
	}
}

func TestNodePortsKeepWhatTheRepositoryNamesAndDoNotCollide(t *testing.T) {
	store := statetest.New(t)
	for i := range 50 {
		spec := corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{
			{Name: "a", Protocol: "TCP", Port: 80}, {Name: "b", Protocol: "TCP", Port: 81, NodePort: 30000 + int32(i)},
		}}
		statetest.Put(t, store, serviceOf(fmt.Sprint("s", i), spec))
	}
	settle(t, store)
	seen := map[int32]bool{}
	for svc := range state.List[*corev1.Service](store.View(), "") {
		for _, p := range svc.Spec.Ports {
			if p.NodePort < 30000 || p.NodePort > 32767 || seen[p.NodePort] {
				t.Errorf("%s: node port %d is out of range or taken twice", svc.Name, p.NodePort)
			}
			seen[p.NodePort] = true
		}
	}
	if got := get(store, "s7").Spec.Ports[1].NodePort; got != 30007 {
		t.Errorf("the named node port became %d", got)
	}
}

func TestFullRangeIsSaidOnceAndFilledWhenRoomComes(t *testing.T) {
	store := statetest.New(t, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: object.ClusterSpec{ServiceCIDR: "10.1.0.0/29"}})
	for i := range 8 {
		statetest.Put(t, store, serviceOf(fmt.Sprint("s", i), corev1.ServiceSpec{}))
	}
	settle(t, store)
	settle(t, store)
	without := ""
	for svc := range state.List[*corev1.Service](store.View(), "") {
		if svc.Spec.ClusterIP == "" {
			without = svc.Name
		}
	}
	events := state.Len[*corev1.Event](store.View())
	if without == "" || events != 3 { // 8 Services, 5 addresses
		t.Fatalf("%d Events; without address: %q", events, without)
	}
	statetest.Update(t, store, func(tx *state.Txn) {
		for svc := range state.List[*corev1.Service](store.View(), "") {
			if svc.Name != without {
				tx.Delete(svc)
			}
		}
	})
	settle(t, store)
	if get(store, without).Spec.ClusterIP == "" {
		t.Error("no address although there is room now")
	}
}
