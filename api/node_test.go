package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

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
)

// bearer sends a token with each request.
type bearer struct {
	token string
	via   http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.via.RoundTrip(r)
}

// agent is the real client of node/link, as a node.
func (s *server) agent(node string) *link.Client {
	return link.NewVia(bearer{node, s.http.Client().Transport}, s.http.URL)
}

func cluster(name, podCIDR string) *object.Cluster {
	return &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: object.ClusterSpec{PodCIDR: podCIDR}}
}

// inProcess calls an API as a node does, but without a network.
type inProcess struct {
	api  *api.API
	node string
}

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := newRecorder()
	r = r.Clone(r.Context())
	r.TLS = verified(api.Identity{Name: p.node, Groups: []string{api.GroupNodes}})
	p.api.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestReportsAreWritten(t *testing.T) {
	mine, theirs, going := pod("a", "mine", "n1"), pod("a", "theirs", "n2"), pod("a", "going", "n1")
	mine.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	now := metav1.Now()
	going.DeletionTimestamp = &now
	s := serve(t, api.Config{}, cluster("home", ""), shopNode(metav1.ObjectMeta{Name: "n1"}), mine, theirs, going)
	get := func(name string) *corev1.Pod {
		p, _ := state.Get[*corev1.Pod](s.store.View(), state.Key{Namespace: "a", Name: name})
		return p
	}
	ref := func(name string) link.PodRef { return link.PodRef{Namespace: "a", Name: name, UID: get(name).UID} }
	running := corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	old := ref("mine")
	old.UID = "another"
	report := link.Report{
		Node: "n1", NodeStatus: &corev1.NodeStatus{Phase: corev1.NodeRunning},
		Statuses: map[types.UID]link.PodStatus{
			"1": {PodRef: ref("theirs"), Status: running}, "2": {PodRef: ref("mine"), Status: running}, "3": {PodRef: old, Status: corev1.PodStatus{Phase: corev1.PodFailed}},
		},
		Removed: []link.PodRef{ref("going"), ref("mine"), ref("theirs"), {Namespace: "a", Name: "nope", UID: "nope"}},
	}
	if err := s.agent("n1").Report(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if p := get("mine"); p == nil || p.Status.Phase != corev1.PodRunning || len(p.Status.Conditions) != 2 {
		t.Errorf("mine: %+v, want it running, still scheduled, and there", p)
	}
	if p := get("theirs"); p == nil || p.Status.Phase != corev1.PodPending {
		t.Errorf("theirs: %+v, want it untouched", p)
	}
	if get("going") != nil {
		t.Error("a Pod that was asked to go and went is still there")
	}
	version := s.store.View().Version
	report.Removed = nil
	if err := s.agent("n1").Report(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if after := s.store.View().Version; after != version {
		t.Errorf("the same report again wrote %d versions", after-version)
	}
	if err := s.agent("n2").Report(t.Context(), link.Report{Node: "n1"}); !apierrors.IsForbidden(err) {
		t.Errorf("another node's report: %v, want forbidden", err)
	}
}

// P11: the values of a Secret go to the node that runs a Pod which refers to it, and to no other.
func TestP11ConfigIsForTheNodeThatNeedsIt(t *testing.T) {
	objects := shop()
	other := shopSecret(metav1.ObjectMeta{Namespace: "shop", Name: "unrelated"})
	s := serve(t, api.Config{}, append(objects, other)...)
	ref := link.PodRef{Namespace: "shop", Name: "web-5d4f8-aaaaa", UID: "uid-web-5d4f8-aaaaa"}
	got, err := s.agent("n1").Config(t.Context(), link.ConfigRequest{Node: "n1", Pod: ref})
	if err != nil || len(got.Secrets) != 1 || string(got.Secrets[0].Data["password"]) != canary || len(got.ConfigMaps) != 1 || got.ConfigMaps[0].Data["colour"] != "green" {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, tc := range map[string]struct{ token, node, uid string }{
		"another node": {"n2", "n2", string(ref.UID)}, "another node's name": {"n2", "n1", string(ref.UID)}, "another uid": {"n1", "n1", "x"},
	} {
		ask := link.ConfigRequest{Node: tc.node, Pod: link.PodRef{Namespace: ref.Namespace, Name: ref.Name, UID: types.UID(tc.uid)}}
		if got, err := s.agent(tc.token).Config(t.Context(), ask); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %+v, %v, want forbidden", name, got, err)
		}
	}
	// A node cannot ask for a Secret by bringing a Pod that refers to it.
	forged := ran("forged", "n3", "forged", "")
	forged.Namespace, forged.Spec = "shop", webSpec("n3")
	req := registration("n3", forged)
	if _, err := s.agent("n3").Register(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	ask := link.ConfigRequest{Node: "n3", Pod: link.PodRef{Namespace: "shop", Name: "forged", UID: "forged"}}
	if got, err := s.agent("n3").Config(t.Context(), ask); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("a forged Pod: %+v, %v, want it refused", got, err)
	}
	// Nor by having it adopted: what counts is what the ReplicaSet's template refers to.
	statetest.Update(t, s.store, func(tx *state.Txn) {
		web, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "shop", Name: ref.Name})
		p, _ := state.Get[*corev1.Pod](tx, state.Key{Namespace: "shop", Name: "forged"})
		p = p.DeepCopy()
		p.OwnerReferences = web.OwnerReferences
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "unrelated"}}}}
		tx.Update(p)
	})
	if got, err := s.agent("n3").Config(t.Context(), ask); err != nil || len(got.Secrets) != 1 || got.Secrets[0].Name != "db" {
		t.Errorf("an adopted Pod: %+v, %v, want the template's Secret alone", got, err)
	}
}

func TestEventsAreCountedAndBounded(t *testing.T) {
	s := serve(t, api.Config{}, cluster("home", ""), shopNode(metav1.ObjectMeta{Name: "n1"}), pod("a", "mine", "n1"), pod("a", "theirs", "n2"))
	about := func(name, pod string, count int32) corev1.Event {
		p, _ := state.Get[*corev1.Pod](s.store.View(), state.Key{Namespace: "a", Name: pod})
		return corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: "a", Name: name},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "a", Name: pod, UID: p.UID}, Count: count, Message: strings.Repeat("é", 2000),
		}
	}
	send := func(events ...corev1.Event) error {
		return s.agent("n1").Events(t.Context(), link.Events{Node: "n1", Events: events})
	}
	if err := send(about("e1", "mine", 1), about("e2", "theirs", 1)); err != nil {
		t.Fatal(err)
	}
	if err := send(about("e1", "mine", 2)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for e := range state.List[*corev1.Event](s.store.View(), "") {
		got = append(got, fmt.Sprintf("%s×%d", e.Name, e.Count))
		if len(e.Message) > 1024 {
			t.Errorf("a message of %d bytes", len(e.Message))
		}
	}
	if diff := cmp.Diff([]string{"e1×2"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	var err error
	for i := 0; i < 20 && err == nil; i++ {
		many := make([]corev1.Event, 100)
		for j := range many {
			many[j] = about(fmt.Sprintf("m%d", j), "mine", int32(i))
		}
		err = send(many...)
	}
	if !apierrors.IsTooManyRequests(err) {
		t.Errorf("2000 events at once: %v, want too many requests", err)
	}
}

func TestPlanIsAsked(t *testing.T) {
	var got api.PlanRequest
	s := serve(t, api.Config{Plan: func(_ context.Context, req api.PlanRequest) (any, error) {
		got = req
		return map[string]int{"created": len(req.Files)}, nil
	}}, shop()...)
	want := api.PlanRequest{Path: "deploy", Files: map[string][]byte{"deploy/a.yaml": []byte("kind: Pod")}}
	code, out := s.do("viewer", http.MethodPost, "/mainstay/v1/plan", want)
	var answer map[string]int
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != http.StatusOK || answer["created"] != 1 {
		t.Errorf("%d %s", code, out)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	big := api.PlanRequest{Files: map[string][]byte{"a": make([]byte, 33<<20)}}
	if code, out := s.do("viewer", http.MethodPost, "/mainstay/v1/plan", big); code != http.StatusRequestEntityTooLarge {
		t.Errorf("33 MiB: %d %.100s, want 413", code, out)
	}
}

// A node gives its Pods addresses of its own range alone: by another's it would get that one's connections and rights.
func TestNodeGivesItsPodsNoAddressesOfOthers(t *testing.T) {
	host := pod("a", "host", "n1")
	host.Spec.HostNetwork = true
	s := serve(t, api.Config{}, cluster("home", ""), networked("n1", "10.244.1.0/24", "192.0.2.1"), pod("a", "plain", "n1"), host)
	for _, tc := range []struct{ pod, said, want string }{
		{"plain", "10.244.1.9", "10.244.1.9"}, {"plain", "10.244.2.9", ""}, {"plain", "192.0.2.66", ""}, {"plain", "nonsense", ""},
		{"host", "192.0.2.1", "192.0.2.1"},
	} {
		key := state.Key{Namespace: "a", Name: tc.pod}
		before, _ := state.Get[*corev1.Pod](s.store.View(), key)
		status := link.PodStatus{
			PodRef: link.PodRef{Namespace: "a", Name: tc.pod, UID: before.UID},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: tc.said, PodIPs: []corev1.PodIP{{IP: tc.said}}},
		}
		if err := s.agent("n1").Report(t.Context(), link.Report{Node: "n1", Statuses: map[types.UID]link.PodStatus{before.UID: status}}); err != nil {
			t.Fatal(err)
		}
		after, _ := state.Get[*corev1.Pod](s.store.View(), key)
		if after.Status.PodIP != tc.want || len(after.Status.PodIPs) > 0 != (tc.want != "") {
			t.Errorf("%s said %q, and has %q %v, want %q", tc.pod, tc.said, after.Status.PodIP, after.Status.PodIPs, tc.want)
		}
	}
}
