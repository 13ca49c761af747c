package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// testCluster is the real API over a store, as a command sees it: through a kubeconfig.
type testCluster struct {
	store      *state.Store
	kubeconfig string
	logLines   string                          // what every container has written
	plan       plan.Report                     // what the server answers
	planned    atomic.Pointer[api.PlanRequest] // the newest it was asked, until asked took it
}

const testToken = "secret-token"

// startCluster serves objects until the test ends.
func startCluster(t *testing.T, objects ...object.Object) *testCluster {
	t.Helper()
	return startWith(t, func(*api.Config) {}, objects...)
}

// startWith is startCluster with an API that is not like any other.
func startWith(t *testing.T, change func(*api.Config), objects ...object.Object) *testCluster {
	t.Helper()
	c := &testCluster{store: statetest.New(t, objects...)}
	cfg := api.Config{
		Store: c.store,
		Log:   slog.New(slog.DiscardHandler),
		Plan: func(_ context.Context, req api.PlanRequest) (any, error) {
			c.planned.Store(&req)
			return c.plan, nil
		},
		Agents:  roundTrip(c.agent),
		Version: "v0.0.0-test",
	}
	change(&cfg)
	handler := api.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = handler.Run(ctx) })
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+testToken { // stands in for a certificate
			ada := &x509.Certificate{Subject: pkix.Name{CommonName: "ada", Organization: []string{api.GroupViewers}}}
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{ada}}}
		}
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that go away are no news
	server.StartTLS()
	t.Cleanup(func() {
		cancel()
		running.Wait()
		server.Close()
	})
	c.kubeconfig = writeKubeconfig(t, server, testToken)
	return c
}

// asked is the newest request for a plan since asked was last called.
func (c *testCluster) asked(t *testing.T) *api.PlanRequest {
	t.Helper()
	req := c.planned.Swap(nil)
	if req == nil {
		t.Fatal("the server was not asked for a plan")
	}
	return req
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *testCluster) agent(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.logLines))}, nil
}

func writeKubeconfig(t *testing.T, server *httptest.Server, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	ca := filepath.Join(filepath.Dir(path), "ca.pem")
	pemBytes := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, server.URL, ca, token)
	for name, data := range map[string][]byte{ca: pemBytes, path: []byte(text)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// outcome is what a command did.
type outcome struct {
	code     int
	out, err string
}

// run runs a command as a shell would, against this cluster.
func (c *testCluster) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return run(t, append(args, "--kubeconfig", c.kubeconfig)...)
}

func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return runContext(t.Context(), args...)
}

func runContext(ctx context.Context, args ...string) outcome {
	var out, errOut bytes.Buffer
	root := testRoot(&out, &errOut)
	code := Execute(ctx, root, args)
	return outcome{code, out.String(), errOut.String()}
}

func testRoot(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{Use: "mainstay"}
	root.AddGroup(Groups()...)
	AddConfigFlag(root)
	root.AddCommand(Commands()...)
	root.SetOut(out)
	root.SetErr(errOut)
	return root
}

// fiveHoursAgo is when every fixture was made: its age reads 5h, also where a test takes a minute.
func fiveHoursAgo() metav1.Time { return metav1.NewTime(time.Now().Add(-5 * time.Hour)) }

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: fiveHoursAgo()}
}

func clusterAt(head, revision string) *object.Cluster {
	return &object.Cluster{ObjectMeta: meta("", "demo"), Status: object.ClusterStatus{
		Repo: "/srv/app.git", Branch: "main", Head: head, Revision: revision,
	}}
}

const (
	commit1 = "1111111aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	commit2 = "2222222bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func revision(commit string, sequence int64, phase string) *object.Revision {
	at := fiveHoursAgo()
	return &object.Revision{ObjectMeta: meta("", commit[:12]),
		Spec: object.RevisionSpec{Commit: commit, Author: "Ada Lovelace <ada@example.org>", Subject: "Change " + commit[:2],
			CommitTime: at, Branch: "main", Sequence: sequence},
		Status: object.RevisionStatus{Phase: phase, FetchedAt: &at, ActivatedAt: &at, Created: 2, Changed: 1, Untouched: 7},
	}
}

func readyPod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(namespace, name),
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "web", Image: "web:1",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.7",
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "web", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	}
}

func owned[T object.Object](o T, kind, apiVersion, name, uid string) T {
	yes := true
	o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, UID: typesUID(uid), Controller: &yes}})
	return o
}

func deployment(name string, want, ready int32) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: meta("default", name),
		Spec: appsv1.DeploymentSpec{Replicas: &want, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}}}},
		Status: appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: want, UpdatedReplicas: want, ReadyReplicas: ready, AvailableReplicas: ready},
	}
	d.UID = typesUID("uid-" + name)
	return d
}

func node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: meta("", name)}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"),
		corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110")}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

// replicaSet is one whose uid is uid-rs.
func replicaSet(name string) *appsv1.ReplicaSet {
	d := deployment(name, 1, 1)
	set := &appsv1.ReplicaSet{ObjectMeta: meta("default", name),
		Spec: appsv1.ReplicaSetSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template}}
	set.UID = "uid-rs"
	return set
}
