package ownservice

import (
	"fmt"
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

func node(name, pods string, ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: pods}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return n
}

func keepNames(t *testing.T, store *state.Store) {
	t.Helper()
	statetest.Update(t, store, func(tx *state.Txn) {
		if _, err := reconcileNames(tx, names, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
}

// answerers lists the nodes that are asked, with their addresses.
func answerers(t *testing.T, r state.Reader) (all []string) {
	t.Helper()
	slice, ok := state.Get[*discoveryv1.EndpointSlice](r, names)
	if !ok || slice.Labels[discoveryv1.LabelServiceName] != names.Name {
		t.Fatalf("the slice is %+v", slice)
	}
	for _, e := range slice.Endpoints {
		all = append(all, *e.NodeName+" "+e.Addresses[0])
	}
	return all
}

func TestNamesAreAskedForAtReadyNodes(t *testing.T) {
	store := statetest.New(t, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: object.ClusterSpec{ServiceCIDR: "10.7.0.0/16"}},
		node("a", "10.244.0.0/24", corev1.ConditionTrue), node("b", "10.244.1.0/24", corev1.ConditionUnknown), node("c", "", corev1.ConditionTrue),
		node("d", "10.244.3.0/24", corev1.ConditionTrue))
	keepNames(t, store)
	svc, ok := state.Get[*corev1.Service](store.View(), names)
	if !ok || svc.Spec.ClusterIP != "10.7.0.10" || svc.Labels["k8s-app"] != "kube-dns" {
		t.Fatalf("the Service is %+v", svc)
	}
	if _, proxied := svc.Labels["kubernetes.io/cluster-service"]; proxied {
		t.Error("kubectl cluster-info would name a URL of the API's proxy, which there is none of")
	}
	var ports []string
	for _, p := range svc.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
	}
	if diff := cmp.Diff([]string{"dns 53/UDP", "dns-tcp 53/TCP"}, ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a 10.244.0.1", "d 10.244.3.1"}, answerers(t, store.View())); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

func TestNodesThatComeAndGoAreFollowed(t *testing.T) {
	store := statetest.New(t, node("a", "10.244.0.0/24", corev1.ConditionTrue), node("b", "10.244.1.0/24", corev1.ConditionTrue))
	keepNames(t, store)
	before := store.View().Version
	keepNames(t, store)
	if after := store.View().Version; after != before {
		t.Errorf("nothing new wrote version %d after %d", after, before)
	}
	statetest.Update(t, store, func(tx *state.Txn) {
		a, _ := state.Get[*corev1.Node](tx, state.Key{Name: "a"})
		lost := a.DeepCopy()
		lost.Status = node("", "", corev1.ConditionUnknown).Status
		tx.SetStatus(lost)
	})
	keepNames(t, store)
	if diff := cmp.Diff([]string{"b 10.244.1.1"}, answerers(t, store.View())); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

func TestManyNodesAreNotAllNamed(t *testing.T) {
	store := statetest.New(t)
	statetest.Update(t, store, func(tx *state.Txn) {
		for i := range maxNameServers + 20 {
			tx.Create(node(fmt.Sprintf("n%03d", i), fmt.Sprintf("10.244.%d.0/24", i), corev1.ConditionTrue))
		}
	})
	keepNames(t, store)
	if got := len(answerers(t, store.View())); got != maxNameServers {
		t.Errorf("%d nodes", got)
	}
}
