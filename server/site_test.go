package server

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

const web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: app, image: "hello:1.0"}]
`

// site is what outlives a process: a repository, a data directory and a host with its containers.
type site struct {
	repo, data string
	host       *runtimetest.Fake
	quiet      time.Duration // as in server
	at         string        // where its server listens; "" is any port
	name       string        // of its server
	join       []string      // the servers to join
	secret     string        // the token to join by
	nonVoter   bool
	wires      wires
}

func newSite(t *testing.T, files map[string]string) *site {
	t.Helper()
	s := &site{repo: filepath.Join(t.TempDir(), "repo"), data: filepath.Join(t.TempDir(), "data"), host: runtimetest.NewFake("hello:1.0", "hello:2.0"), quiet: time.Second}
	if out, err := exec.Command("git", "init", "-q", "-b", "main", s.repo).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	s.commit(t, files)
	return s
}

func (s *site) commit(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.repo, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", s.repo}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// start runs a whole process on the site; stop ends it and returns what it returned.
func (s *site) start(t *testing.T) (running *server, stop func() error) {
	return s.run(t, (*server).onlyNode)
}

// control runs a server without a node on the site.
func (s *site) control(t *testing.T) (running *server, stop func() error) {
	return s.run(t, func(*server) []part { return nil })
}

func (s *site) config() Config {
	return Config{
		Git: gitsync.Config{Repo: s.repo}, DataDir: s.data, NodeName: "n1", Version: "test", Log: slog.New(slog.DiscardHandler),
		Name: s.name, Join: s.join, Token: s.secret, NonVoter: s.nonVoter, wires: s.wires,
	}
}

func (s *site) run(t *testing.T, beside func(*server) []part) (running *server, stop func() error) {
	t.Helper()
	at := s.at
	if at == "" {
		at = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	running, err = newServer(t.Context(), s.config(), listener)
	if err != nil {
		t.Fatal(err)
	}
	running.quiet = s.quiet
	running.open = func(string, string) (host, error) { return host{runtime: s.host, close: func() {}}, nil }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- running.run(ctx, listener, beside(running)...) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-done
		running.raft.Close()
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the process ended with %v", err)
		}
	})
	return running, stop
}

// until waits for a state.
func until(t *testing.T, s *server, what string, wanted func(state.Reader) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := await(ctx, s.store, wanted); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// converged says that the revision in force runs, and that n Pods are left.
func converged(n int) func(state.Reader) bool {
	return func(r state.Reader) bool {
		cluster := plan.LiveCluster(r)
		if cluster == nil || cluster.Status.Revision == "" || state.Len[*corev1.Pod](r) != n {
			return false
		}
		rev, ok := state.Get[*object.Revision](r, state.Key{Name: cluster.Status.Revision})
		return ok && rev.Status.Phase == object.RevisionConverged
	}
}

func uids(r state.Reader) []string {
	var all []string
	for pod := range state.List[*corev1.Pod](r, "") {
		all = append(all, pod.Name+" "+string(pod.UID))
	}
	return all
}

// touched lists the calls that start or stop something.
func (s *site) touched() []runtimetest.Call { return touched(s.host) }

func touched(host *runtimetest.Fake) []runtimetest.Call {
	return slices.DeleteFunc(host.Calls(), func(c runtimetest.Call) bool {
		return !slices.Contains([]string{"StartContainer", "StopContainer", "RemoveContainer", "RemovePod", "UnpauseContainer"}, c.Method)
	})
}

// kubeconfig waits for the file: it is written while the process starts.
func (s *site) kubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(s.data, "kubeconfig")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// head is the repository's newest commit.
func (s *site) head(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("git", "-C", s.repo, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
