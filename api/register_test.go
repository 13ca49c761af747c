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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

func registration(name string, pods ...corev1.Pod) link.Registration {
	return link.Registration{
		Cluster: "home", Address: name + ":7444", Pods: pods,
		Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}},
	}
}

// ran is a Pod as an agent reports it.
func ran(name, node, uid, ip string) corev1.Pod {
	p := pod("a", name, node)
	p.UID, p.ResourceVersion, p.Status.PodIP, p.Status.Phase = types.UID(uid), "77", ip, corev1.PodRunning
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "lost", UID: "lost"}}
	return *p
}

func TestRegistrationGivesEachNodeItsRange(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", "10.1.0.0/22"))
	register := func(name string, pods ...corev1.Pod) (string, error) {
		got, err := s.agent(name).Register(t.Context(), registration(name, pods...))
		return got.PodCIDR, err
	}
	for _, tc := range []struct{ node, podIP, want string }{
		{"n1", "", "10.1.0.0/24"}, {"n2", "10.1.3.9", "10.1.3.0/24"}, {"n1", "10.1.2.9", "10.1.0.0/24"}, {"n3", "10.1.3.7", "10.1.1.0/24"},
	} {
		got, err := register(tc.node, ran("p-"+tc.node, tc.node, "u-"+tc.node, tc.podIP))
		if err != nil || got != tc.want {
			t.Errorf("%s with a Pod at %q: %s, %v, want %s", tc.node, tc.podIP, got, err, tc.want)
		}
	}
	node, _ := state.Get[*corev1.Node](s.store.View(), state.Key{Name: "n2"})
	if node.Annotations[api.AddressAnnotation] != "n2:7444" || node.Labels["kubernetes.io/hostname"] != "n2" {
		t.Errorf("%+v", node.ObjectMeta)
	}

	full := serve(t, api.Config{}, cluster("home", "10.1.0.0/24"), shopNode(metav1.ObjectMeta{Name: "n9"}))
	statetest.Update(t, full.store, func(tx *state.Txn) {
		n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n9"})
		n = n.DeepCopy()
		n.Spec.PodCIDR = "10.1.0.0/24"
		tx.Update(n)
	})
	if _, err := full.agent("n1").Register(t.Context(), registration("n1")); !apierrors.IsServiceUnavailable(err) || !strings.Contains(err.Error(), "10.1.0.0/24") {
		t.Errorf("no range left: %v", err)
	}
}

// While a rebuilt cluster waits for its nodes, each that returns gets the range that it had, and a new one none, so that nobody is
// given that of a node which is yet to come.
func TestARebuiltClusterKeepsRangesForThoseWhoReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rebuilt := cluster("home", "10.1.0.0/16")
		rebuilt.Status.Conditions = []metav1.Condition{{Type: object.Recovering, Status: metav1.ConditionTrue}}
		store := statetest.New(t, rebuilt)
		a := local(store)
		go func() { _ = a.Run(t.Context()) }()
		register := func(name, had string) string {
			req := registration(name)
			req.Node.Spec.PodCIDR = had
			got, err := link.NewVia(inProcess{a, name}, "server").Register(t.Context(), req)
			if apierrors.IsServiceUnavailable(err) {
				return "wait"
			} else if err != nil {
				t.Fatal(err)
			}
			return got.PodCIDR
		}
		recovered := func() {
			statetest.Update(t, store, func(tx *state.Txn) {
				c, _ := state.Get[*object.Cluster](tx, state.Key{Name: "home"})
				c = c.DeepCopy()
				c.Status.Conditions[0].Status = metav1.ConditionFalse
				tx.SetStatus(c)
			})
		}
		for _, step := range []struct{ node, had, want string }{
			{"new", "", "wait"}, {"idle", "10.1.1.0/24", "10.1.1.0/24"}, {"new", "", "wait"}, {"twin", "10.1.1.0/24", "wait"}, {"foreign", "10.9.1.0/24", "wait"},
			{"first", "10.1.0.0/24", "10.1.0.0/24"}, {"", "", ""}, {"new", "", "10.1.2.0/24"}, {"late", "10.1.7.0/24", "10.1.7.0/24"}, {"twin", "10.1.1.0/24", "10.1.3.0/24"},
		} {
			if step.node == "" {
				recovered()
			} else if got := register(step.node, step.had); got != step.want {
				t.Errorf("%s, which had %q: %s, want %s", step.node, step.had, got, step.want)
			}
		}
	})
}

// If no node of before is left, new ones are taken in all the same.
func TestARebuiltClusterOfNewNodesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rebuilt := cluster("home", "10.1.0.0/16")
		rebuilt.Status.Conditions = []metav1.Condition{{Type: object.Recovering, Status: metav1.ConditionTrue}}
		a := local(statetest.New(t, rebuilt))
		go func() { _ = a.Run(t.Context()) }()
		begun := time.Now()
		for {
			got, err := link.NewVia(inProcess{a, "new"}, "server").Register(t.Context(), registration("new"))
			if err == nil {
				if waited := time.Since(begun); got.PodCIDR != "10.1.0.0/24" || waited < time.Minute || waited > 3*time.Minute {
					t.Errorf("%s after %s", got.PodCIDR, waited)
				}
				return
			} else if !apierrors.IsServiceUnavailable(err) || time.Since(begun) > time.Hour {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
	})
}

// slowLog is a log on a disk that takes its time.
type slowLog struct{ statetest.Log }

func (l *slowLog) Append(ctx context.Context, entry []byte) ([]error, error) {
	time.Sleep(10 * time.Millisecond) // virtual
	return l.Log.Append(ctx, entry)
}

// Nodes that come at the same time must not be given the same range: none of them would reach the others' Pods.
func TestNodesThatComeTogetherGetRangesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := state.New(tables.Schema(), time.Now)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = store.Commit(ctx, &slowLog{statetest.Log{Store: store}}) }()
		if err := store.Leading(ctx); err != nil {
			t.Fatal(err)
		}
		statetest.Put(t, store, cluster("home", "10.1.0.0/16"))
		a := local(store)
		go func() { _ = a.Run(ctx) }()
		ranges := make([]string, 3)
		var joining sync.WaitGroup
		for i, name := range []string{"n1", "n2", "n3"} {
			joining.Go(func() {
				got, err := link.NewVia(inProcess{a, name}, "server").Register(t.Context(), registration(name))
				if err != nil {
					t.Error(err)
				}
				ranges[i] = got.PodCIDR
			})
		}
		joining.Wait()
		slices.Sort(ranges)
		if diff := cmp.Diff([]string{"10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24"}, ranges); diff != "" {
			t.Errorf("ranges (-want +got):\n%s", diff)
		}
	})
}

func TestRegistrationIsForTheRightClusterAndNode(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""))
	wrong := registration("n1")
	wrong.Cluster = "away"
	if _, err := s.agent("n1").Register(t.Context(), wrong); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `"away"`) || !strings.Contains(err.Error(), `"home"`) {
		t.Errorf("%v, want a conflict that names both clusters", err)
	}
	if _, err := s.agent("n2").Register(t.Context(), registration("n1")); !apierrors.IsForbidden(err) {
		t.Errorf("another node's name: %v, want forbidden", err)
	}
	got, err := s.agent("n1").Register(t.Context(), registration("n1"))
	want := link.Registered{PodCIDR: "10.244.0.0/24", ClusterCIDR: "10.244.0.0/16", DNS: "10.96.0.10", Version: uint64(s.store.View().Version)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// A server that has lost its memory takes in what runs, as it is.
func TestUnknownNodeBringsItsPods(t *testing.T) {
	live := pod("a", "live", "n2")
	s := serve(t, api.Config{}, cluster("home", ""), pod("a", "fresh", ""), live)
	req := registration("n1", ran("old", "n1", "u1", "10.244.7.2"), ran("fresh", "n1", "u2", "10.244.7.3"), ran("live", "n1", "u3", ""), ran("renamed", "n0", "u4", ""))
	got, err := s.agent("n1").Register(t.Context(), req)
	if err != nil || got.Adopted != 3 || got.PodCIDR != "10.244.7.0/24" {
		t.Fatalf("%+v, %v, want 3 adopted and the range they are in", got, err)
	}
	view := s.store.View()
	for name, uid := range map[string]types.UID{"old": "u1", "fresh": "u2", "renamed": "u4"} {
		p, ok := state.Get[*corev1.Pod](view, state.Key{Namespace: "a", Name: name})
		if !ok || p.UID != uid || p.Spec.NodeName != "n1" || p.Status.Phase != corev1.PodRunning || len(p.OwnerReferences) != 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, _ := state.Get[*corev1.Pod](view, state.Key{Namespace: "a", Name: "live"}); p.Spec.NodeName != "n2" {
		t.Error("a Pod that lives elsewhere was replaced")
	}
	again := registration("n1", ran("late", "n1", "u9", ""))
	if got, err := s.agent("n1").Register(t.Context(), again); err != nil || got.Adopted != 0 || got.PodCIDR != "10.244.7.0/24" {
		t.Errorf("a known node: %+v, %v, want nothing adopted and the same range", got, err)
	}
}

// While a cluster is rebuilt nodes say what runs, but not where others' Pods are.
func TestAdoptedPodsHaveTheirNodesAddressesAlone(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""))
	beside, inHost, elsewhere := ran("beside", "n1", "u2", "10.244.9.3"), ran("host", "n1", "u3", "192.0.2.1"), ran("elsewhere", "n1", "u4", "192.0.2.66")
	inHost.Spec.HostNetwork, elsewhere.Spec.HostNetwork = true, true
	req := registration("n1", ran("own", "n1", "u1", "10.244.7.2"), beside, inHost, elsewhere)
	req.Node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	if got, err := s.agent("n1").Register(t.Context(), req); err != nil || got.Adopted != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	addresses := func() map[string]string {
		found := map[string]string{}
		for p := range state.List[*corev1.Pod](s.store.View(), "a") {
			found[p.Name] = p.Status.PodIP
		}
		return found
	}
	want := map[string]string{"own": "10.244.7.2", "beside": "", "host": "192.0.2.1", "elsewhere": ""}
	if diff := cmp.Diff(want, addresses()); diff != "" {
		t.Error(diff)
	}
	lie := link.PodStatus{PodRef: link.PodRef{Namespace: "a", Name: "host", UID: "u3"}, Status: corev1.PodStatus{PodIP: "192.0.2.66"}}
	if err := s.agent("n1").Report(t.Context(), link.Report{Node: "n1", Statuses: map[types.UID]link.PodStatus{"u3": lie}}); err != nil {
		t.Fatal(err)
	}
	if got := addresses()["host"]; got != "" {
		t.Errorf("a Pod in the host's network is at %s, which is not the host's", got)
	}
}
