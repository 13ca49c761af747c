package endpoints

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

var web = state.Key{Namespace: "default", Name: "web"}

func service(change func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.1.1", Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	change(svc)
	return svc
}

func asIs(*corev1.Service) {}

func pod(name, ip string, port int32, ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{
			Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func settle(t *testing.T, store *state.Store) {
	t.Helper()
	if err := engine.Settle(t.Context(), store, []engine.Controller{Controller()}, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// shown renders the slices: address, ready/serving/terminating, port.
func shown(store *state.Store) []string {
	lines := []string{}
	for s := range state.List[*discoveryv1.EndpointSlice](store.View(), "") {
		port := int32(0)
		if len(s.Ports) > 0 {
			port = *s.Ports[0].Port
		}
		for _, e := range s.Endpoints {
			c := e.Conditions
			lines = append(lines, fmt.Sprintf("%s:%d %t/%t/%t %s", e.Addresses[0], port, *c.Ready, *c.Serving, *c.Terminating, e.TargetRef.Name))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestEndpointsSayWhatPodsAre(t *testing.T) {
	dying := pod("d", "10.0.0.4", 8080, corev1.ConditionTrue)
	now := metav1.Now()
	dying.DeletionTimestamp = &now
	done := pod("e", "10.0.0.5", 8080, corev1.ConditionFalse)
	done.Status.Phase = corev1.PodSucceeded
	pods := []*corev1.Pod{
		pod("a", "10.0.0.1", 8080, corev1.ConditionTrue), pod("b", "10.0.0.2", 9090, corev1.ConditionTrue),
		pod("c", "10.0.0.3", 8080, corev1.ConditionFalse), dying, done, pod("f", "", 8080, corev1.ConditionFalse),
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Service)
		want   []string
	}{
		"named port per Pod": {asIs, []string{
			"10.0.0.1:8080 true/true/false a", "10.0.0.2:9090 true/true/false b", "10.0.0.3:8080 false/false/false c", "10.0.0.4:8080 false/true/true d"}},
		"not ready published": {func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }, []string{
			"10.0.0.1:8080 true/true/false a", "10.0.0.2:9090 true/true/false b", "10.0.0.3:8080 true/true/false c", "10.0.0.4:8080 true/true/true d"}},
		"number": {func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(77) }, []string{
			"10.0.0.1:77 true/true/false a", "10.0.0.2:77 true/true/false b", "10.0.0.3:77 false/false/false c", "10.0.0.4:77 false/true/true d"}},
		"no selector":   {func(s *corev1.Service) { s.Spec.Selector = nil }, []string{}},
		"external name": {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(t, service(tc.change))
			for _, p := range pods {
				statetest.Put(t, store, p)
			}
			settle(t, store)
			if diff := cmp.Diff(tc.want, shown(store)); diff != "" {
				t.Error(diff)
			}
			before := store.View().Version
			settle(t, store)
			if store.View().Version != before {
				t.Error("slices were written again although nothing changed")
			}
		})
	}
}

func TestHeadlessServiceIsLabelled(t *testing.T) {
	store := statetest.New(t, service(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), pod("a", "10.0.0.1", 8080, corev1.ConditionTrue))
	settle(t, store)
	for s := range state.List[*discoveryv1.EndpointSlice](store.View(), "") {
		want := map[string]string{"team": "a", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: manager, corev1.IsHeadlessService: ""}
		if diff := cmp.Diff(want, s.Labels); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOnePodsChangeWritesOneSlice(t *testing.T) {
	store := statetest.New(t, service(asIs))
	for i := range 250 {
		statetest.Put(t, store, pod(fmt.Sprintf("p%03d", i), fmt.Sprintf("10.0.%d.%d", i/200, i%200+1), 8080, corev1.ConditionTrue))
	}
	settle(t, store)
	if got := state.Len[*discoveryv1.EndpointSlice](store.View()); got != 3 {
		t.Fatalf("%d slices for 250 endpoints, want 3", got)
	}
	for i, change := range []func(tx *state.Txn, p *corev1.Pod){
		func(tx *state.Txn, p *corev1.Pod) {
			p.Status.Conditions[0].Status = corev1.ConditionFalse
			tx.SetStatus(p)
		},
		func(tx *state.Txn, p *corev1.Pod) { tx.Delete(p) },
	} {
		before := store.View().Version
		statetest.Update(t, store, func(tx *state.Txn) {
			p, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "default", Name: fmt.Sprintf("p%03d", 40+i)})
			change(tx, p.DeepCopy())
		})
		settle(t, store)
		if got := store.View().Version - before; got != 2 {
			t.Errorf("change %d: %d writes, want the Pod's own and one slice", i, got)
		}
	}
}

func TestAServiceWithoutEndpointsHasOneEmptySlice(t *testing.T) {
	store := statetest.New(t, service(asIs))
	count := func(want string) {
		t.Helper()
		settle(t, store)
		before := store.View().Version
		settle(t, store)
		if store.View().Version != before {
			t.Error("slices were written again although nothing changed")
		}
		got := fmt.Sprint(state.Len[*discoveryv1.EndpointSlice](store.View()), shown(store))
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	count("1 []")
	statetest.Put(t, store, pod("a", "10.0.0.1", 8080, corev1.ConditionTrue))
	statetest.Put(t, store, pod("b", "10.0.0.2", 9090, corev1.ConditionTrue))
	count("2 [10.0.0.1:8080 true/true/false a 10.0.0.2:9090 true/true/false b]")
	statetest.Update(t, store, func(tx *state.Txn) {
		for p := range state.List[*corev1.Pod](tx, "default") {
			tx.Delete(p)
		}
	})
	count("1 []")
}

func TestSlicesGoWithTheirServiceAndForeignOnesStay(t *testing.T) {
	foreign := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "foreign",
		Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: discoveryv1.AddressTypeIPv4}
	store := statetest.New(t, service(asIs), pod("a", "10.0.0.1", 8080, corev1.ConditionTrue), foreign)
	settle(t, store)
	statetest.Update(t, store, func(tx *state.Txn) {
		svc, _ := state.Get[*corev1.Service](tx, web)
		tx.Delete(svc)
	})
	settle(t, store)
	var left []string
	for s := range state.List[*discoveryv1.EndpointSlice](store.View(), "") {
		left = append(left, s.Name)
	}
	if diff := cmp.Diff([]string{"foreign"}, left); diff != "" {
		t.Error(diff)
	}
}
