package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

func TestCommitRunsAndTheNextOneRolls(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	before := uids(running.store.View())
	s.commit(t, map[string]string{"web.yaml": strings.Replace(web, "1.0", "2.0", 1)})
	until(t, running, "3 new Pods run", func(r state.Reader) bool {
		for _, uid := range uids(r) {
			if slices.Contains(before, uid) {
				return false
			}
		}
		return converged(3)(r)
	})
}

func TestRestartTouchesNothingAndWritesNoRevision(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	before, calls := uids(running.store.View()), len(s.touched())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	running, _ = s.start(t)
	until(t, running, "3 Pods run again", converged(3))
	if after := uids(running.store.View()); !slices.Equal(before, after) {
		t.Errorf("pods = %v, want %v", after, before)
	}
	if got := s.touched(); len(got) != calls {
		t.Errorf("P5: the restart made these calls: %v", got[calls:])
	}
	if n := state.Len[*object.Revision](running.store.View()); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

func TestRebuildAdoptsAndRemovesOnlyWhatGitDoesNotWant(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web, "old.yaml": strings.ReplaceAll(web, "web", "old")})
	running, stop := s.start(t)
	until(t, running, "6 Pods run", converged(6))
	before, calls := uids(running.store.View()), len(s.touched())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.data); err != nil {
		t.Fatal(err)
	}
	s.commit(t, map[string]string{"old.yaml": "# nothing any more\n"})
	running, _ = s.start(t)
	until(t, running, "3 Pods are left", converged(3))
	for _, uid := range uids(running.store.View()) {
		if !slices.Contains(before, uid) {
			t.Errorf("pod %s is new", uid)
		}
	}
	for _, call := range s.touched()[calls:] {
		if call.Method == "StartContainer" {
			t.Errorf("the rebuild started %v", call)
		}
	}
}

// While a cluster is being rebuilt from a repository that cannot be read, nothing is decided, so nothing is stopped (P3).
func TestRebuildWithoutItsRepositoryStopsNothing(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web, "mainstay.yaml": "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: prod}\n"})
	running, stop := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	calls := len(s.touched())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.data); err != nil {
		t.Fatal(err)
	}
	s.commit(t, map[string]string{"web.yaml": "kind: Nonsense\n"})
	running, _ = s.start(t)
	until(t, running, "the commit is rejected", func(r state.Reader) bool { return state.Len[*object.Revision](r) == 1 })
	if got := s.touched(); len(got) != calls {
		t.Errorf("P3: these calls were made: %v", got[calls:])
	}
	if got := state.Len[*corev1.Pod](running.store.View()); got != 3 {
		t.Errorf("%d Pods are known, want the 3 that run", got)
	}
	s.commit(t, map[string]string{"web.yaml": web})
	until(t, running, "the next good commit adopts them", converged(3))
	if got := s.touched(); len(got) != calls {
		t.Errorf("adoption made these calls: %v", got[calls:])
	}
}

func TestOnlyTheClustersCertificatesGetIn(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	viewer, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(running.authority.CertPEM())
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for _, tc := range []struct {
		name   string
		client *http.Client
		path   string
		want   int
	}{
		{"anyone may ask for health", nobody, "/healthz", 200},
		{"anyone may ask for readiness", nobody, "/readyz", 200},
		{"nobody reads without a certificate", nobody, "/api/v1/pods", 401},
		{"nor metrics", nobody, "/metrics", 401},
		{"a viewer reads", viewer, "/api/v1/pods", 200},
		{"and sees metrics", viewer, "/metrics", 200},
		{"but is no node", viewer, "/mainstay/v1/node/pods", 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			response, err := tc.client.Get("https://" + running.reachable + tc.path)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, _ := io.ReadAll(response.Body); response.StatusCode != tc.want {
				t.Errorf("%s answers %d, want %d: %s", tc.path, response.StatusCode, tc.want, body)
			}
		})
	}
}

func TestMetricsTellOfRevisionsAndTheStoreWithoutNamingObjects(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": strings.ReplaceAll(web, "name: web", "name: very-own-name")})
	running, _ := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	families, err := running.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, family := range families {
		text += family.String() + "\n"
	}
	for _, name := range []string{
		"mainstay_revision_lag_seconds", "mainstay_revision_converge_seconds", "mainstay_reconcile_duration_seconds", "mainstay_reconcile_queue_depth",
		"mainstay_raft_append_seconds", "mainstay_store_objects", "mainstay_store_version", "mainstay_node_actions_total", "mainstay_api_requests_total",
	} {
		if !strings.Contains(text, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	if strings.Contains(text, "very-own-name") {
		t.Error("a label names an object")
	}
}

func TestOneProcessPerDataDirectory(t *testing.T) {
	dir := t.TempDir()
	release, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("the second lock: %v, want an error with a remedy", err)
	}
	release()
	again, err := lockDir(dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again()
}

func TestOneAgentPerClusterAndHost(t *testing.T) {
	release, err := lockCluster("test-one-agent")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockCluster("test-one-agent"); err == nil || !strings.Contains(err.Error(), "test-one-agent") {
		t.Errorf("the second lock: %v, want an error that names the cluster", err)
	}
	release()
	again, err := lockCluster("test-one-agent")
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again()
}

func TestNoRepositoryIsSaidBeforeAnythingIsMade(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	err := Up(t.Context(), Config{Git: gitsync.Config{Repo: "/no/such/place"}, DataDir: data, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "/no/such/place") {
		t.Errorf("err = %v, want one that names the path", err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

func TestCleanupOfNoClusterMakesNothing(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	err := Cleanup(t.Context(), Config{DataDir: data, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), data) || !strings.Contains(err.Error(), "--repo") {
		t.Errorf("err = %v, want one that names the directory and a remedy", err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the data directory was made")
	}
}

func TestTakenPortSaysWhatToDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = Up(t.Context(), Config{Git: gitsync.Config{Repo: t.TempDir()}, DataDir: t.TempDir(), Listen: taken.Addr().String(), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("err = %v, want one that names --listen", err)
	}
}
