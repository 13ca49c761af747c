package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// twoNodeCluster is a cluster with a Pod on each of n1 and n2, and n2's certificate in hostile hands.
func twoNodeCluster(t *testing.T) (s *site, running *server, victim *corev1.Pod, evil *pki.Held) {
	t.Helper()
	s = newSite(t, map[string]string{"web.yaml": web})
	running, _ = s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return plan.LiveCluster(r) != nil })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	n1, n2 := newMachine(t, "n1"), newMachine(t, "n2")
	n1.agent(t, running, token)
	until(t, running, "n1 is Ready", nodesReady("n1"))
	until(t, running, "3 Pods run", converged(3))
	n2.agent(t, running, token)
	until(t, running, "both are Ready", nodesReady("n1", "n2"))
	for pod := range state.List[*corev1.Pod](running.store.View(), "") {
		if pod.Spec.NodeName == "n1" {
			victim = pod
		}
	}
	evil, err := pki.OpenHeld(filepath.Join(n2.data, identityDir))
	if err != nil {
		t.Fatal(err)
	}
	return s, running, victim, evil
}

func TestNodeSpeaksForItselfAlone(t *testing.T) {
	_, running, victim, evil := twoNodeCluster(t)
	client, ctx := link.New([]string{running.reachable}, evil.ToServers), t.Context()
	cluster := plan.LiveCluster(running.store.View()).Name
	ref := link.PodRef{Namespace: victim.Namespace, Name: victim.Name, UID: victim.UID}
	n1 := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	for name, ask := range map[string]func() error{
		"register": func() error {
			_, err := client.Register(ctx, link.Registration{Cluster: cluster, Node: n1})
			return err
		},
		"pods": func() error { _, err := client.Pods(ctx, link.PodsRequest{Node: "n1"}); return err },
		"report": func() error {
			return client.Report(ctx, link.Report{Node: "n1", NodeStatus: &corev1.NodeStatus{}})
		},
		"config":  func() error { _, err := client.Config(ctx, link.ConfigRequest{Node: "n1", Pod: ref}); return err },
		"events":  func() error { return client.Events(ctx, link.Events{Node: "n1"}) },
		"network": func() error { _, err := client.Network(ctx, link.NetworkRequest{Node: "n1"}); return err },
		"config of a Pod that is not bound to it": func() error {
			_, err := client.Config(ctx, link.ConfigRequest{Node: "n2", Pod: ref})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := ask(); !apierrors.IsForbidden(err) {
				t.Errorf("err = %v, want forbidden", err)
			}
		})
	}
}

// What a node says of another's Pods is no error, for the Pod may have been its own a moment ago; but it changes nothing.
func TestNodeChangesNothingOfAnothersPods(t *testing.T) {
	_, running, victim, evil := twoNodeCluster(t)
	client, ctx := link.New([]string{running.reachable}, evil.ToServers), t.Context()
	ref := link.PodRef{Namespace: victim.Namespace, Name: victim.Name, UID: victim.UID}
	failed := map[types.UID]link.PodStatus{victim.UID: {PodRef: ref, Status: corev1.PodStatus{Phase: corev1.PodFailed, PodIP: "192.0.2.66"}}}
	if err := client.Report(ctx, link.Report{Node: "n2", Statuses: failed, Removed: []link.PodRef{ref}}); err != nil {
		t.Fatal(err)
	}
	about := corev1.ObjectReference{Kind: "Pod", Namespace: victim.Namespace, Name: victim.Name, UID: victim.UID}
	lie := corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: victim.Namespace, Name: "lie"}, InvolvedObject: about, Reason: "Lie"}
	if err := client.Events(ctx, link.Events{Node: "n2", Events: []corev1.Event{lie}}); err != nil {
		t.Fatal(err)
	}
	made := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "made-up", UID: "1"}}
	self := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2", Labels: map[string]string{
		"node-restriction.kubernetes.io/vault": "yes", "dedicated": "secrets", corev1.LabelHostname: "n1",
	}, Annotations: map[string]string{object.PullAnnotation: "evil:1"}}, Spec: corev1.NodeSpec{Unschedulable: true}}
	if _, err := client.Register(ctx, link.Registration{Cluster: plan.LiveCluster(running.store.View()).Name, Node: self, Pods: []corev1.Pod{made}}); err != nil {
		t.Fatal(err)
	}
	view := running.store.View()
	after, ok := state.Get[*corev1.Pod](view, state.KeyOf(victim))
	if !ok || after.Status.Phase != victim.Status.Phase || after.Status.PodIP != victim.Status.PodIP {
		t.Errorf("the Pod is %+v", after)
	}
	if _, ok := state.Get[*corev1.Event](view, state.Key{Namespace: victim.Namespace, Name: "lie"}); ok {
		t.Error("the Event about another's Pod was taken")
	}
	if _, ok := state.Get[*corev1.Pod](view, state.KeyOf(&made)); ok {
		t.Error("a Pod that a known node made up was taken in")
	}
	n2, _ := state.Get[*corev1.Node](view, state.Key{Name: "n2"})
	if n2.Labels["dedicated"] != "" || n2.Labels["node-restriction.kubernetes.io/vault"] != "" || n2.Labels[corev1.LabelHostname] != "n2" ||
		n2.Annotations[object.PullAnnotation] != "" || n2.Spec.Unschedulable {
		t.Errorf("the node gave itself %v %v %+v", n2.Labels, n2.Annotations, n2.Spec)
	}
}

func TestRenewalGivesANodeItsOwnNameAlone(t *testing.T) {
	_, running, _, evil := twoNodeCluster(t)
	client := link.New([]string{running.reachable}, evil.ToServers)
	request, key, err := pki.Request()
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.Renew(t.Context(), link.RenewRequest{Request: string(request)})
	if err != nil {
		t.Fatal(err)
	}
	held, err := pki.Hold(t.TempDir(), []byte(got.Certificate), key, []byte(got.Authority))
	if err != nil || held.Name() != "n2" {
		t.Errorf("the certificate is for %q, %v", held.Name(), err)
	}
	if _, err := link.New([]string{running.reachable}, held.ToServers).Pods(t.Context(), link.PodsRequest{Node: "n2"}); err != nil {
		t.Errorf("with the new certificate: %v", err)
	}
}

// A machine that another has replaced under its name is refused, though its certificate is good for months.
func TestAReplacedMachineIsRefused(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return plan.LiveCluster(r) != nil })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	old, other := newMachine(t, "n1"), newMachine(t, "n1")
	stop := old.agent(t, running, token)
	until(t, running, "the node is Ready", nodesReady("n1"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	running.unheard(t, "n1")
	until(t, running, "the node is given up", nodesReady())
	other.agent(t, running, token)
	until(t, running, "the new machine is Ready", nodesReady("n1"))
	for _, tc := range []struct {
		who    *machine
		refuse bool
	}{{old, true}, {other, false}} {
		held, err := pki.OpenHeld(filepath.Join(tc.who.data, identityDir))
		if err != nil {
			t.Fatal(err)
		}
		client := link.New([]string{running.reachable}, held.ToServers)
		request, _, err := pki.Request()
		if err != nil {
			t.Fatal(err)
		}
		_, renewed := client.Renew(t.Context(), link.RenewRequest{Request: string(request)})
		_, polled := client.Pods(t.Context(), link.PodsRequest{Node: "n1"})
		for what, err := range map[string]error{"renew": renewed, "poll": polled} {
			if apierrors.IsForbidden(err) != tc.refuse || !tc.refuse && err != nil {
				t.Errorf("%s, refused %t: %v", what, tc.refuse, err)
			}
		}
	}
}

func TestWhoGetsInWhere(t *testing.T) {
	s, running, victim, evil := twoNodeCluster(t)
	stranger, err := pki.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	viewer := running.authority.Renewing(pki.Identity{Name: "v", Group: pki.GroupViewers})
	foreign := stranger.Renewing(pki.Identity{Name: "n1", Group: pki.GroupNodes}).ClientTLS()
	foreign.RootCAs = running.authority.Pool()
	nobody := &tls.Config{RootCAs: running.authority.Pool()}
	agent, err := running.agentAddress("n1")
	if err != nil {
		t.Fatal(err)
	}
	agentTLS := func(config *tls.Config) *tls.Config {
		config.ServerName, config.VerifyConnection = pki.NodeHost("n1"), nil
		return config
	}
	logs := "/mainstay/v1/logs/" + victim.Namespace + "/" + victim.Name + "/app?uid=" + string(victim.UID)
	server := s.token(t, join.Wanted{Role: object.RoleServer})
	for _, tc := range []struct {
		who, method, at, body string
		tls                   *tls.Config
		want                  int // 0: not even a connection
	}{
		{"nobody", "POST", running.reachable + link.PathPods, "{}", nobody, 401},
		{"nobody", "POST", running.reachable + link.PathRenew, "{}", nobody, 401},
		{"a viewer", "POST", running.reachable + link.PathPods, "{}", viewer.ClientTLS(), 403},
		{"a viewer", "POST", running.reachable + link.PathRenew, "{}", viewer.ClientTLS(), 403},
		{"a viewer", "GET", running.reachable + "/apis/mainstay.dev/v1alpha1/jointokens", "", viewer.ClientTLS(), 404},
		{"a node", "GET", running.reachable + "/api/v1/secrets", "", evil.ToServers(), 403},
		{"a node with a server's token", "POST", running.reachable + link.PathJoin, `{"token":"` + server + `","node":"n9","request":"x"}`, evil.ToServers(), 403},
		{"another cluster's node", "POST", running.reachable + link.PathPods, "{}", foreign, 0},
		{"a node, of another's logs", "GET", agent + logs, "", agentTLS(evil.ClientTLS()), 403},
		{"a viewer, past the server", "GET", agent + logs, "", agentTLS(viewer.ClientTLS()), 403},
		{"nobody, of an agent's metrics", "GET", agent + "/metrics", "", agentTLS(nobody.Clone()), 401},
		{"a viewer, of an agent's metrics", "GET", agent + "/metrics", "", agentTLS(viewer.ClientTLS()), 200},
		{"anybody, of an agent's health", "GET", agent + "/healthz", "", agentTLS(nobody.Clone()), 200},
	} {
		t.Run(tc.who+" "+tc.at[strings.Index(tc.at, "/"):], func(t *testing.T) {
			if got, body := send(t.Context(), t, tc.method, tc.at, tc.body, tc.tls); got != tc.want {
				t.Errorf("%d, want %d: %s", got, tc.want, body)
			}
		})
	}
}

// send returns 0 and why if there was no connection.
func send(ctx context.Context, t *testing.T, method, at, body string, config *tls.Config) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+at, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}
