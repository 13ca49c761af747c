package gitsync_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// patience bounds every wait of a test; nothing waits for it to pass. With every processor taken ten times over, reading 2 000
// files under the race detector took more than 20 s.
const patience = 2 * time.Minute

// repo is a Git repository that a user works in.
type repo struct {
	t   testing.TB
	dir string
}

// newRepo makes a worktree on branch main; arguments go to git init.
func newRepo(t testing.TB, args ...string) repo {
	t.Helper()
	r := repo{t, t.TempDir()}
	r.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repo) write(name, content string) {
	r.t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// commit commits everything and returns the full hash.
func (r repo) commit(message string) string {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("rev-parse", "HEAD")
}

// configMap is a manifest that says one thing.
func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

// put commits a ConfigMap in a file of its name.
func (r repo) put(name, value string) string {
	r.t.Helper()
	r.write(name+".yaml", configMap(name, value))
	return r.commit(name + " is " + value)
}

// cluster is a store with a follower.
type cluster struct {
	t     testing.TB
	store *state.Store
	stop  func()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func metrics() *gitsync.Metrics { return gitsync.NewMetrics(prometheus.NewRegistry()) }

// follow starts a follower on a store until the test ends or stop is called.
func follow(t testing.TB, s *state.Store, c gitsync.Config) *cluster {
	t.Helper()
	return followWith(t, s, c, metrics())
}

func followWith(t testing.TB, s *state.Store, c gitsync.Config, m *gitsync.Metrics) *cluster {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := gitsync.Follow(ctx, c, s, m, quiet()); ctx.Err() == nil {
			t.Errorf("follow ended: %v", err)
		}
	}()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return &cluster{t, s, stop}
}

func watching(t testing.TB, r repo) *cluster {
	t.Helper()
	return follow(t, statetest.New(t), gitsync.Config{Repo: r.dir})
}

// until waits for a snapshot of which ok holds.
func (c *cluster) until(what string, ok func(r state.Reader) bool) *state.Snapshot {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for snap := c.store.View(); ; {
		if ok(snap) {
			return snap
		}
		next, err := c.store.Wait(ctx, snap.Version+1)
		if err != nil {
			c.t.Fatalf("%s: did not come about; cluster: %+v", what, plan.LiveCluster(snap))
		}
		snap = next
	}
}

func status(r state.Reader) object.ClusterStatus {
	if cluster := plan.LiveCluster(r); cluster != nil {
		return cluster.Status
	}
	return object.ClusterStatus{}
}

func revision(r state.Reader, commit string) *object.Revision {
	rev, _ := state.Get[*object.Revision](r, state.Key{Name: gitsync.RevisionName(commit)})
	return rev
}

// active waits until a commit is in force.
func (c *cluster) active(commit string) *state.Snapshot {
	c.t.Helper()
	return c.until("activation of "+commit, func(r state.Reader) bool {
		rev := revision(r, commit)
		return rev != nil && rev.Status.Phase == object.RevisionActive && status(r).Head == commit
	})
}

func (c *cluster) rejected(commit string) *object.Revision {
	c.t.Helper()
	return revision(c.until("rejection of "+commit, func(r state.Reader) bool {
		rev := revision(r, commit)
		return rev != nil && rev.Status.Phase == object.RevisionRejected
	}), commit)
}

func (c *cluster) failing(text string) *state.Snapshot {
	c.t.Helper()
	return c.until("error "+text, func(r state.Reader) bool { return strings.Contains(status(r).Error, text) })
}

// value is what a ConfigMap says, "" if there is none.
func value(r state.Reader, name string) string {
	config, ok := state.Get[*corev1.ConfigMap](r, state.Key{Namespace: "default", Name: name})
	if !ok {
		return ""
	}
	return config.Data["value"]
}
