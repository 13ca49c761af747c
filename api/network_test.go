package api_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// networked is a Node as others reach it.
func networked(name, podCIDR, address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: podCIDR},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

func routed(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Annotations: map[string]string{"long": "text"}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.9", Selector: map[string]string{"app": name}},
	}
}

func sliceOf(service, name, address string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service, "x": "y"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
}

func home(store string) *object.Cluster {
	c := cluster("home", "")
	c.Status.Store, c.Status.Revision = store, "abc"
	return c
}

// heard is what an answer names, in the order of names.
func heard(r link.NetworkResponse) (names []string) {
	for i := range r.Services {
		names = append(names, "service "+r.Services[i].Name)
	}
	for i := range r.EndpointSlices {
		names = append(names, "slice "+r.EndpointSlices[i].Name)
	}
	for _, p := range r.Peers {
		names = append(names, "peer "+p.Name+" "+p.PodCIDR+" "+p.Address)
	}
	for _, p := range r.Policies {
		names = append(names, "policy "+p.Name+" for "+strings.Join(p.Pods, " "))
	}
	for _, g := range r.Gone {
		names = append(names, "gone "+g.Kind+" "+g.Name)
	}
	slices.Sort(names)
	return names
}

// networkTest is an API in process whose polls take virtual time.
type networkTest struct {
	*testing.T
	store *state.Store
	api   *api.API
	later *sync.WaitGroup
}

// after does something in so long, and the test lasts until it is done.
func (n networkTest) after(d time.Duration, do func()) {
	n.later.Go(func() {
		time.Sleep(d) // virtual
		do()
	})
}

func virtually(t *testing.T, test func(networkTest), objects ...object.Object) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, objects...)
		a := local(store)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = a.Run(ctx) }()
		synctest.Wait()
		var later sync.WaitGroup
		test(networkTest{t, store, a, &later})
		later.Wait()
	})
}

func (n networkTest) poll(store string, after uint64) (link.NetworkResponse, time.Duration, error) {
	start := time.Now()
	req := link.NetworkRequest{Node: "n1", Store: store, After: after, Wait: metav1.Duration{Duration: 20 * time.Second}}
	resp, err := link.NewVia(inProcess{n.api, "n1"}, "server").Network(n.Context(), req)
	return resp, time.Since(start), err
}

func (n networkTest) must(store string, after uint64) link.NetworkResponse {
	n.Helper()
	resp, _, err := n.poll(store, after)
	if err != nil {
		n.Fatal(err)
	}
	return resp
}

func TestNetworkIsToldWholeThenByChange(t *testing.T) {
	virtually(t, func(n networkTest) {
		first := n.must("", 0)
		want := []string{"peer n1 10.244.0.0/24 192.0.2.1", "service web", "slice web-1"}
		if diff := cmp.Diff(want, heard(first)); diff != "" || !first.Whole || first.Store != "s1" {
			n.Fatalf("whole %t, store %q (-want +got):\n%s", first.Whole, first.Store, diff)
		}
		if svc := first.Services[0]; svc.Annotations != nil || svc.Spec.ClusterIP == "" || first.EndpointSlices[0].Labels["x"] != "" {
			n.Errorf("%+v: want no more than a node needs", svc.ObjectMeta)
		}
		statetest.Put(n, n.store, sliceOf("web", "web-2", "10.244.0.3"), networked("n2", "10.244.1.0/24", "192.0.2.2"))
		statetest.Update(n, n.store, func(tx *state.Txn) {
			slice, _ := state.Get[*discoveryv1.EndpointSlice](tx, state.Key{Namespace: "a", Name: "web-1"})
			tx.Delete(slice)
		})
		synctest.Wait()
		second := n.must(first.Store, first.Version)
		want = []string{"gone EndpointSlice web-1", "peer n2 10.244.1.0/24 192.0.2.2", "slice web-2"}
		if diff := cmp.Diff(want, heard(second)); diff != "" || second.Whole {
			n.Errorf("whole %t (-want +got):\n%s", second.Whole, diff)
		}
		if again, took, err := n.poll(second.Store, second.Version); err != nil || len(heard(again)) > 0 || took != 20*time.Second {
			n.Errorf("%v, %v after %s, want nothing after 20s", heard(again), err, took)
		}
	}, home("s1"), networked("n1", "10.244.0.0/24", "192.0.2.1"), routed("web"), sliceOf("web", "web-1", "10.244.0.2"))
}

// A node's vitals change all the time; they must not wake every node of the cluster.
func TestNetworkPassesOverVitals(t *testing.T) {
	virtually(t, func(n networkTest) {
		first := n.must("", 0)
		n.after(5*time.Second, func() {
			statetest.Update(n, n.store, func(tx *state.Txn) {
				node, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n1"})
				node = node.DeepCopy()
				node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
				tx.SetStatus(node)
			})
		})
		n.after(10*time.Second, func() {
			statetest.Update(n, n.store, func(tx *state.Txn) {
				node, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n1"})
				node = node.DeepCopy()
				node.Status.Addresses[0].Address = "192.0.2.7"
				tx.SetStatus(node)
			})
		})
		resp, took, err := n.poll(first.Store, first.Version)
		if diff := cmp.Diff([]string{"peer n1 10.244.0.0/24 192.0.2.7"}, heard(resp)); err != nil || took != 10*time.Second || diff != "" {
			n.Errorf("%v after %s, want the address after 10s (-want +got):\n%s", err, took, diff)
		}
	}, home("s1"), networked("n1", "10.244.0.0/24", "192.0.2.1"))
}

// Versions of another store mean nothing, and a Service whose endpoints are not known yet is no reason to drop those that are.
func TestNetworkOfAnotherStoreIsToldWholeOnceItIsKnown(t *testing.T) {
	virtually(t, func(n networkTest) {
		n.after(7*time.Second, func() { statetest.Put(n, n.store, sliceOf("web", "web-1", "10.244.0.2")) })
		resp, took, err := n.poll("s0", 1)
		if err != nil || !resp.Whole || took != 7*time.Second || len(resp.EndpointSlices) != 1 {
			n.Errorf("%v, %v after %s, want everything after 7s", heard(resp), err, took)
		}
	}, home("s1"), routed("web"))
	virtually(t, func(n networkTest) {
		if resp, took, err := n.poll("", 0); err == nil || took != 20*time.Second {
			n.Errorf("%v after %s, want a refusal after 20s: nothing may be called gone", heard(resp), took)
		}
	}, home("s1"), routed("web"))
}

// Of thousands of nodes that join, each must not be told to all others by itself; but nothing else may wait for them.
func TestNetworkTellsOfNodesInTurns(t *testing.T) {
	const nodes = 200 // whose turn takes as many milliseconds
	add := func(n networkTest, at time.Duration, o object.Object) {
		n.after(at, func() { statetest.Put(n, n.store, o) })
	}
	crowd := func(n networkTest) link.NetworkResponse { // has heard of n2, and the turn begins
		first := n.must("", 0)
		add(n, time.Second, networked("n2", "10.244.2.0/24", "192.0.2.2"))
		answers := make(chan link.NetworkResponse, nodes)
		for range nodes {
			n.later.Go(func() { answers <- n.must(first.Store, first.Version) })
		}
		return <-answers
	}
	virtually(t, func(n networkTest) {
		second := crowd(n)
		add(n, 50*time.Millisecond, networked("n3", "10.244.3.0/24", "192.0.2.3"))
		add(n, 60*time.Millisecond, networked("n4", "10.244.4.0/24", "192.0.2.4"))
		third, took, err := n.poll(second.Store, second.Version)
		want := []string{"peer n3 10.244.3.0/24 192.0.2.3", "peer n4 10.244.4.0/24 192.0.2.4"}
		if diff := cmp.Diff(want, heard(third)); err != nil || diff != "" || took != nodes*time.Millisecond {
			n.Errorf("%v after %s, want both nodes at the end of the turn (-want +got):\n%s", err, took, diff)
		}
	}, home("s1"), networked("n1", "10.244.1.0/24", "192.0.2.1"))
	virtually(t, func(n networkTest) {
		second := crowd(n)
		add(n, 50*time.Millisecond, networked("n3", "10.244.3.0/24", "192.0.2.3"))
		add(n, 100*time.Millisecond, sliceOf("web", "web-1", "10.244.1.2"))
		third, took, err := n.poll(second.Store, second.Version)
		want := []string{"peer n3 10.244.3.0/24 192.0.2.3", "slice web-1"}
		if diff := cmp.Diff(want, heard(third)); err != nil || diff != "" || took != 100*time.Millisecond {
			n.Errorf("%v after %s, want the endpoints at once, and the node with them (-want +got):\n%s", err, took, diff)
		}
	}, home("s1"), networked("n1", "10.244.1.0/24", "192.0.2.1"))
}

// A server that lost its store knows a part of the network first. Whoever was told that this is all would lose its routes.
func TestNetworkIsNotToldWhileNodesAreAwaited(t *testing.T) {
	young, waiting := home("s1"), home("s1")
	young.Status.Revision = ""
	waiting.Status.Conditions = []metav1.Condition{{Type: object.Recovering, Status: metav1.ConditionTrue}}
	for name, c := range map[string]*object.Cluster{"the repository is not read": young, "nodes are awaited": waiting} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(n networkTest) {
				n.after(7*time.Second, func() {
					statetest.Update(n, n.store, func(tx *state.Txn) {
						live, _ := state.Get[*object.Cluster](tx, state.KeyOf(c))
						done := live.DeepCopy()
						done.Status.Revision = "abc"
						done.Status.Conditions = []metav1.Condition{{Type: object.Recovering, Status: metav1.ConditionFalse}}
						tx.SetStatus(done)
					})
				})
				resp, took, err := n.poll("s0", 1)
				if err != nil || !resp.Whole || took != 7*time.Second {
					n.Errorf("%v, %v after %s, want everything after 7s", heard(resp), err, took)
				}
			}, c, networked("n1", "10.244.0.0/24", "192.0.2.1"))
		})
	}
}

// A policy is told again when what it means has changed, though it has not.
func TestNetworkTellsWhatPoliciesMean(t *testing.T) {
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "deny"}}
	policy.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	virtually(t, func(n networkTest) {
		first := n.must("", 0)
		if diff := cmp.Diff([]string{"policy deny for "}, heard(first)); diff != "" {
			n.Fatalf("(-want +got):\n%s", diff)
		}
		n.after(4*time.Second, func() { statetest.Put(n, n.store, at(pod("b", "other", "n1"), "10.244.0.7")) })
		n.after(8*time.Second, func() { statetest.Put(n, n.store, at(pod("a", "one", "n1"), "10.244.0.8")) })
		resp, took, err := n.poll(first.Store, first.Version)
		if diff := cmp.Diff([]string{"policy deny for 10.244.0.8"}, heard(resp)); err != nil || took != 8*time.Second || diff != "" {
			n.Errorf("%v after %s, want the Pod's address after 8s (-want +got):\n%s", err, took, diff)
		}
	}, home("s1"), policy)
}

func at(p *corev1.Pod, address string) *corev1.Pod {
	p.Status.PodIP = address
	p.Status.PodIPs = []corev1.PodIP{{IP: address}}
	return p
}
