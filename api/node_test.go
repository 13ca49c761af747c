package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
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
	if want := (link.Registered{PodCIDR: "10.244.0.0/24", ClusterCIDR: "10.244.0.0/16"}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
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

func TestPodsPoll(t *testing.T) {
	ready := errors.New("recovering")
	s := serve(t, api.Config{Ready: func() error { return ready }}, cluster("home", ""), shopNode(metav1.ObjectMeta{Name: "n1"}), pod("a", "1", "n1"), pod("a", "2", "n2"))
	agent := s.agent("n1")
	ask := func(have map[types.UID]string) (link.PodsResponse, error) {
		return agent.Pods(t.Context(), link.PodsRequest{Node: "n1", Have: have, Wait: metav1.Duration{Duration: 30 * time.Second}})
	}
	if _, err := ask(map[types.UID]string{"x": "1"}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("while recovering: %v, want unavailable: nothing may be called gone", err)
	}
	ready = nil
	resp, err := ask(map[types.UID]string{"x": "1"})
	if err != nil || len(resp.Pods) != 1 || resp.Pods[0].Name != "1" || !slices.Equal(resp.Gone, []types.UID{"x"}) {
		t.Fatalf("%+v, %v", resp, err)
	}
	one := resp.Pods[0]
	have := map[types.UID]string{one.UID: one.ResourceVersion}

	answers := make(chan link.PodsResponse, 1)
	go func() {
		resp, err := ask(have)
		if err != nil {
			t.Error(err)
		}
		answers <- resp
	}()
	statetest.Put(t, s.store, pod("a", "3", "n2"), pod("a", "4", "n1")) // before or after the poll begins: no matter
	if resp := <-answers; len(resp.Pods) != 1 || resp.Pods[0].Name != "4" || resp.Version < 6 {
		t.Errorf("%+v, want the new Pod of this node", resp)
	}
	if _, err := s.agent("n3").Pods(t.Context(), link.PodsRequest{Node: "n3"}); !apierrors.IsNotFound(err) {
		t.Errorf("an unknown node: %v, want not found", err)
	}
	if _, err := s.agent("n2").Pods(t.Context(), link.PodsRequest{Node: "n1"}); !apierrors.IsForbidden(err) {
		t.Errorf("another node's Pods: %v, want forbidden", err)
	}
}

func TestPodsPollWakesOnlyForItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, shopNode(metav1.ObjectMeta{Name: "n1"}))
		a := local(store)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = a.Run(ctx) }()
		var took time.Duration
		var resp link.PodsResponse
		done := make(chan error)
		start := time.Now()
		go func() {
			var err error
			resp, err = link.NewVia(inProcess{a, "n1"}, "server").Pods(t.Context(), link.PodsRequest{Node: "n1", Wait: metav1.Duration{Duration: 20 * time.Second}})
			took = time.Since(start)
			done <- err
		}()
		time.Sleep(5 * time.Second) // virtual
		statetest.Put(t, store, pod("a", "theirs", "n2"))
		time.Sleep(5 * time.Second) // virtual
		statetest.Put(t, store, pod("a", "mine", "n1"))
		if err := <-done; err != nil || took != 10*time.Second || len(resp.Pods) != 1 || resp.Pods[0].Name != "mine" {
			t.Errorf("%+v, %v after %s, want the node's Pod after 10s", resp, err, took)
		}
		stop()
	})
}

// P6: a node hears at once which images it is to pull, as long as it does not say that it knows.
func TestPodsPollTellsWhatToPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, shopNode(metav1.ObjectMeta{Name: "n1"}))
		a := local(store)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = a.Run(ctx) }()
		ask := func(known ...string) (pull []string, took time.Duration) {
			start := time.Now()
			req := link.PodsRequest{Node: "n1", Pull: known, Wait: metav1.Duration{Duration: 20 * time.Second}}
			resp, err := link.NewVia(inProcess{a, "n1"}, "server").Pods(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			return resp.Pull, time.Since(start)
		}
		want := func(images string) {
			statetest.Update(t, store, func(tx *state.Txn) {
				n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n1"})
				n = n.DeepCopy()
				n.Annotations = map[string]string{object.PullAnnotation: images}
				tx.Update(n)
			})
		}
		time.AfterFunc(5*time.Second, func() { want("b:1,a:1,b:1") })
		pull, took := ask()
		if diff := cmp.Diff([]string{"a:1", "b:1"}, pull); diff != "" || took != 5*time.Second {
			t.Errorf("after %s, want 5s; (-want +got):\n%s", took, diff)
		}
		if pull, took = ask("a:1"); len(pull) != 2 || took != 0 {
			t.Errorf("%v after %s, want both images at once", pull, took)
		}
		if _, took = ask("a:1", "b:1"); took != 20*time.Second {
			t.Errorf("answered after %s although nothing was new", took)
		}
		time.AfterFunc(5*time.Second, func() { want("") })
		if pull, took = ask("a:1", "b:1"); len(pull) != 0 || took != 5*time.Second {
			t.Errorf("%v after %s, want none after 5s", pull, took)
		}
		stop()
	})
}

// inProcess calls an API without a network, as `mainstay up` does.
type inProcess struct {
	api  *api.API
	node string
}

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := newRecorder()
	p.api.ServeHTTP(w, r.WithContext(api.WithIdentity(r.Context(), identities[p.node])))
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
