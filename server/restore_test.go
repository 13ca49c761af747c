package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/backup"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
)

// save saves a snapshot of a running server, as `mainstay snapshot save` does.
func (s *site) save(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "prod.mainstay")
	if _, err := (Admin{DataDir: s.data}).SaveSnapshot(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// restore replaces the site's data by what a file holds, as `mainstay snapshot restore` does.
func (s *site) restore(t *testing.T, file string) {
	t.Helper()
	s.data = filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(t.Context(), file, s.data, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// inForce says that the repository's newest commit runs in n Pods.
func inForce(commit string, n int) func(state.Reader) bool {
	return func(r state.Reader) bool {
		cluster := plan.LiveCluster(r)
		return converged(n)(r) && strings.HasPrefix(commit, cluster.Status.Revision) && !object.IsRecovering(cluster)
	}
}

// A snapshot that is older than what runs: what has changed since, what is new and what is unchanged all run on.
func TestRestoreOfAnOlderSnapshotTouchesNothingThatGitWants(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web, "stay.yaml": strings.ReplaceAll(web, "web", "stay"), "old.yaml": strings.ReplaceAll(web, "web", "old")})
	running, stop := s.start(t)
	until(t, running, "9 Pods run", converged(9))
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	file, storeID := s.save(t), plan.LiveCluster(running.store.View()).Status.Store
	s.commit(t, map[string]string{
		"web.yaml": strings.Replace(web, "1.0", "2.0", 1), "new.yaml": strings.ReplaceAll(web, "web", "new"), "old.yaml": "# nothing any more\n",
	})
	until(t, running, "the second commit runs", inForce(s.head(t), 9))
	before, calls, authority := uids(running.store.View()), len(s.touched()), running.authority.Pin()
	told := running.store.View().Version
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s.restore(t, file)
	running, _ = s.start(t)
	until(t, running, "the branch's head runs", inForce(s.head(t), 9))
	if after := uids(running.store.View()); !slices.Equal(before, after) {
		t.Errorf("pods = %v, want %v", after, before)
	}
	if got := s.touched(); len(got) != calls {
		t.Errorf("P5: the restore made these calls: %v", got[calls:])
	}
	if now := plan.LiveCluster(running.store.View()).Status.Store; now == storeID || now == "" {
		t.Errorf("the store's id is %q, that of the saved one %q: want another", now, storeID)
	}
	if running.authority.Pin() != authority {
		t.Error("the restored cluster has another authority")
	}
	if known := running.gate.Tokens(); len(known) != 1 || !strings.Contains(token, known[0].ID) {
		t.Errorf("tokens = %v, want %s", known, token)
	}
	for _, version := range []state.Version{told, told + 100} {
		if got := s.watch(t, running, version); !strings.Contains(got, `"code":410`) {
			t.Errorf("a watch from version %d of the other store answers %s, want 410", version, got)
		}
	}
}

// watch asks for changes after a version and returns the first line of the answer.
func (s *site) watch(t *testing.T, running *server, after state.Version) string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	viewer, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := viewer.Get(fmt.Sprintf("https://%s/api/v1/pods?watch=1&timeoutSeconds=1&resourceVersion=%d", running.reachable, after))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusGone {
		t.Fatalf("%s: %s %v", answer.Status, body, err)
	}
	return string(body)
}

// Until the repository can be read nobody knows what is wanted: a snapshot's word for it may be old (P3).
func TestRestoreWithoutTheRepositoryStopsNothing(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	file := s.save(t)
	s.commit(t, map[string]string{"new.yaml": strings.ReplaceAll(web, "web", "new")})
	until(t, running, "6 Pods run", inForce(s.head(t), 6))
	calls := len(s.touched())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.repo, s.repo+".away"); err != nil {
		t.Fatal(err)
	}
	s.restore(t, file)
	running, _ = s.start(t)
	until(t, running, "the node's Pods are known, and why no more is", func(r state.Reader) bool {
		return state.Len[*corev1.Pod](r) == 6 && plan.LiveCluster(r).Status.Error != ""
	})
	if got := s.touched(); len(got) != calls {
		t.Errorf("P3: these calls were made: %v", got[calls:])
	}
	if err := os.Rename(s.repo+".away", s.repo); err != nil {
		t.Fatal(err)
	}
	until(t, running, "the branch's head runs", inForce(s.head(t), 6))
	if got := s.touched(); len(got) != calls {
		t.Errorf("P5: these calls were made: %v", got[calls:])
	}
}

// Two restores of one file, one after the other: what the first told is never told again for something else.
func TestVersionsGoOnlyForward(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	file, last := s.save(t), running.store.View().Version
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.restore(t, file)
		running, stop := s.control(t)
		if first := running.store.View().Version; first <= last {
			t.Errorf("a restored store begins at version %d, after one that was at %d", first, last)
		}
		last = running.store.View().Version
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSnapshotIsPrivateAndOfNobodyElsesCluster(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	file := s.save(t)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %o, want 600: it holds secrets", info.Mode().Perm())
	}
	b, err := OpenSnapshot(file)
	if err != nil {
		t.Fatal(err)
	}
	cluster := plan.LiveCluster(running.store.View())
	if b.Header.Cluster != cluster.Name || b.Header.Store != cluster.Status.Store || b.Header.Commit != s.head(t) || b.Counts()["Pod"] != 3 {
		t.Errorf("header %+v with %v does not say what runs", b.Header, b.Counts())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestRestoreRefusesADirectoryThatIsUsedOrNotEmpty(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	file := s.save(t)
	release, err := lockDir(s.data) // as a process does, before it makes its server
	if err != nil {
		t.Fatal(err)
	}
	_, err = Restore(t.Context(), file, s.data, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("a directory in use: %v", err)
	}
	release()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_, err = Restore(t.Context(), file, s.data, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "not empty") || !strings.Contains(err.Error(), "raft") {
		t.Errorf("a directory with a store: %v", err)
	}
	empty := t.TempDir()
	_, err = Restore(t.Context(), filepath.Join(s.repo, "web.yaml"), empty, slog.New(slog.DiscardHandler))
	if !errors.Is(err, backup.ErrForeign) {
		t.Errorf("a foreign file: %v", err)
	}
	if left, _ := os.ReadDir(empty); len(left) > 0 {
		t.Errorf("a refused restore left %v", left)
	}
}
