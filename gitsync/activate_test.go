package gitsync_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// mistake commits a ConfigMap with a field that there is not.
func (r repo) mistake(name string) string {
	r.write(name+".yaml", configMap(name, "bad")+"replicas: 4\n")
	return r.commit("a mistake in " + name)
}

// P2: of a commit with a mistake nothing is applied, and the next good one just works.
func TestARejectedCommitChangesNothing(t *testing.T) {
	r := newRepo(t)
	c := watching(t, r)
	first := r.put("a", "1")
	version := c.active(first).Version
	r.write("a.yaml", configMap("a", "2"))
	bad := r.mistake("b")
	rev := c.rejected(bad)
	want := []object.Problem{{Path: "b.yaml", Line: 5, Column: 1, Object: "ConfigMap default/b", Field: "replicas", Message: rev.Status.Problems[0].Message}}
	if diff := cmp.Diff(want, rev.Status.Problems); diff != "" || rev.Status.ProblemsAll != 1 {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	snap := c.store.View()
	if got := status(snap); value(snap, "a") != "1" || got.Head != bad || got.Revision != gitsync.RevisionName(first) {
		t.Errorf("a = %q, status = %+v", value(snap, "a"), got)
	}
	if rev := revision(snap, first); rev.Status.Phase != object.RevisionActive {
		t.Errorf("the revision in force is %s", rev.Status.Phase)
	}
	if snap.Version != version+2 { // the Revision and the Cluster's status
		t.Errorf("%d writes, want 2", snap.Version-version)
	}
	good := r.put("b", "3")
	if snap := c.active(good); value(snap, "a") != "2" || value(snap, "b") != "3" {
		t.Errorf("a = %q, b = %q", value(snap, "a"), value(snap, "b"))
	}
}

func TestGoingBackFromARejectedCommitKeepsTheRevision(t *testing.T) {
	r := newRepo(t)
	c := watching(t, r)
	first := r.put("a", "1")
	c.active(first)
	c.rejected(r.mistake("a"))
	r.git("reset", "-q", "--hard", first)
	snap := c.active(first)
	if rev := revision(snap, first); rev.Spec.Sequence != 1 {
		t.Errorf("sequence = %d: what is in force was activated again", rev.Spec.Sequence)
	}
}

// P3: neither a --path that is not there nor a tree without manifests deletes anything.
func TestATreeWithoutManifestsIsRejected(t *testing.T) {
	for name, remove := range map[string]func(r repo){
		"the directory is gone": func(r repo) { r.git("rm", "-q", "-r", "apps"); r.write("README", "x") },
		"the manifests are":     func(r repo) { r.git("rm", "-q", "-r", "apps"); r.write("apps/README", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.write("apps/a.yaml", configMap("a", "1"))
			c := follow(t, statetest.New(t), gitsync.Config{Repo: r.dir, Path: "./apps/"})
			c.active(r.commit("a"))
			remove(r)
			c.rejected(r.commit("nothing left"))
			if got := value(c.store.View(), "a"); got != "1" {
				t.Errorf("a = %q", got)
			}
		})
	}
}

func TestACommitWithoutManifestsWritesNoObject(t *testing.T) {
	r := newRepo(t)
	c := watching(t, r)
	version := c.active(r.put("a", "1")).Version
	r.write("README.md", "words")
	commit := r.commit("docs")
	snap := c.active(commit)
	want := object.RevisionStatus{Phase: object.RevisionActive, Untouched: 1}
	got := revision(snap, commit).Status
	got.FetchedAt, got.ActivatedAt = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if snap.Version > version+3 { // two Revisions and the Cluster's status
		t.Errorf("%d writes, want 3", snap.Version-version)
	}
}

// A leader that takes over finds the head dealt with and writes nothing; one that was rejected it looks at again, and
// comes to the same.
func TestANewTermWritesNothing(t *testing.T) {
	r := newRepo(t)
	good := r.put("a", "1")
	store := statetest.New(t)
	restart := func(step string) state.Version {
		registry := prometheus.NewRegistry()
		version := store.View().Version
		c := followWith(t, store, gitsync.Config{Repo: r.dir}, gitsync.NewMetrics(registry))
		eventually(t, step, func() bool { return measured(t, registry, step) > 0 })
		c.stop()
		return store.View().Version - version
	}
	c := follow(t, store, gitsync.Config{Repo: r.dir})
	c.active(good)
	c.stop()
	if writes := restart("mainstay_revision_load_seconds"); writes != 0 {
		t.Errorf("%d writes after a restart", writes)
	}
	c = follow(t, store, gitsync.Config{Repo: r.dir})
	c.rejected(r.mistake("a"))
	c.stop()
	if writes := restart("mainstay_revisions_total"); writes != 0 {
		t.Errorf("%d writes after a restart on a rejected commit", writes)
	}
}

// What is in force does not depend on being read, or accepted, once more.
func TestANewTermBelievesTheOneBefore(t *testing.T) {
	r := newRepo(t)
	store := statetest.New(t)
	c := follow(t, store, gitsync.Config{Repo: r.dir})
	version := c.active(r.put("a", "1")).Version
	c.stop()
	blob := r.git("rev-parse", "HEAD:a.yaml")
	must(t, os.Remove(filepath.Join(r.dir, ".git/objects", blob[:2], blob[2:])))
	registry := prometheus.NewRegistry()
	c = followWith(t, store, gitsync.Config{Repo: r.dir}, gitsync.NewMetrics(registry))
	const attempts = 2 // a missing object is looked for twice
	eventually(t, "reading", func() bool { return measured(t, registry, "mainstay_revision_load_seconds") >= attempts })
	c.active(r.put("a", "2"))
	if errors := measured(t, registry, "mainstay_git_errors_total"); errors != 0 {
		t.Errorf("%d errors", errors)
	}
	if now := store.View().Version; now > version+6 {
		t.Errorf("%d writes for one commit", now-version)
	}
}

// measured is the value of a counter, or how often a histogram was observed, over all labels.
func measured(t testing.TB, registry *prometheus.Registry, name string) (n int) {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				n += int(m.GetCounter().GetValue()) + int(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return n
}

// A commit that touches 3 of 2 000 files decodes 3.
func TestOnlyWhatChangedIsDecoded(t *testing.T) {
	const files = 2000
	r := newRepo(t)
	for i := range files {
		r.write(fmt.Sprintf("d%d/f%d.yaml", i%20, i), configMap(fmt.Sprint("f", i), "1"))
	}
	first := r.commit("many")
	registry := prometheus.NewRegistry()
	decoded := func() int { return measured(t, registry, "mainstay_git_files_decoded_total") }
	c := followWith(t, statetest.New(t), gitsync.Config{Repo: r.dir}, gitsync.NewMetrics(registry))
	c.active(first)
	if n := decoded(); n != files {
		t.Errorf("%d files were decoded at first, want %d", n, files)
	}
	for _, i := range []int{3, 700, 1999} {
		r.write(fmt.Sprintf("d%d/f%d.yaml", i%20, i), configMap(fmt.Sprint("f", i), "2"))
	}
	snap := c.active(r.commit("three"))
	if n := decoded() - files; n != 3 || value(snap, "f700") != "2" {
		t.Errorf("%d files were decoded, want 3", n)
	}
}

// A flood of commits starts few activations and ends at the last one.
func TestAFloodOfCommitsEndsAtTheLast(t *testing.T) {
	const commits = 100
	r := newRepo(t)
	c := watching(t, r)
	c.active(r.put("a", "0"))
	parent, tree := r.git("rev-parse", "HEAD"), ""
	start := time.Now()
	for i := range commits {
		blob := r.hash(configMap("a", fmt.Sprint(i)))
		tree = r.tree("100644 blob " + blob + "\ta.yaml\n")
		parent = r.git("commit-tree", "-p", parent, "-m", fmt.Sprint(i), tree)
		r.git("update-ref", "refs/heads/main", parent)
	}
	took := time.Since(start)
	snap := c.active(parent)
	if got := value(snap, "a"); got != fmt.Sprint(commits-1) {
		t.Errorf("a = %q", got)
	}
	if n, most := state.Len[*object.Revision](snap), 5+int(took/time.Second); n > most {
		t.Errorf("%d activations in %s, want at most %d", n, took, most)
	}
}

func (r repo) hash(content string) string {
	r.write("content", content)
	return r.git("hash-object", "-w", "content")
}

func (r repo) tree(entries string) string {
	r.t.Helper()
	r.write(".git/entries", entries)
	return r.git("-c", "alias.mk=!git mktree < .git/entries", "mk")
}

// P7: each object names the commit that last changed it and its author, also in a cluster that is rebuilt, as far as the
// repository's history tells.
func TestSourcesNameTheirCommits(t *testing.T) {
	r := newRepo(t)
	a := r.put("a", "1")
	deep := func(value string) string {
		r.write("deep/er/b.yaml", configMap("b", value))
		return r.commit("b is " + value)
	}
	b := deep("1")
	r.git("checkout", "-q", "-b", "feature")
	r.write("side.yaml", configMap("side", "1"))
	r.git("add", "-A")
	r.git("-c", "user.name=Eve", "-c", "user.email=eve@example.com", "commit", "-q", "--author", "Eve <eve@example.com>", "-m", "side")
	side := r.git("rev-parse", "HEAD")
	r.git("checkout", "-q", "main")
	b2 := deep("2")
	r.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
	head := r.git("rev-parse", "HEAD")
	c := watching(t, r)
	snap := c.active(head)
	for name, want := range map[string]string{"a": a, "b": b2, "side": side} {
		if got := sourceOf(t, snap, name).Commit; got != want {
			t.Errorf("%s comes from %s, want %s (not %s)", name, got, want, b)
		}
	}
	if got := sourceOf(t, snap, "side").Author; got != "Eve <eve@example.com>" {
		t.Errorf("author = %q", got)
	}
	r.git("mv", "a.yaml", "moved.yaml")
	snap = c.active(r.commit("move"))
	if got := sourceOf(t, snap, "a"); got.Path != "moved.yaml" || got.Commit != a {
		t.Errorf("after moving it, a comes from %s of %s", got.Path, got.Commit)
	}
}

func sourceOf(t *testing.T, r state.Reader, name string) object.SourceSpec {
	t.Helper()
	source, ok := state.Get[*object.Source](r, state.Key{Namespace: "default", Name: "configmaps." + name})
	if !ok {
		t.Fatalf("no source of %s", name)
	}
	return source.Spec
}

// The status of the Cluster is several writers': of commits, good and bad, and of errors, only the repository's part.
func TestWhatOthersSayOfTheClusterStays(t *testing.T) {
	others := object.ClusterStatus{Store: "s", Level: object.Level, Conditions: []metav1.Condition{{Type: object.EvictionsPaused, Status: metav1.ConditionTrue}}}
	r := newRepo(t)
	c := follow(t, statetest.New(t, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Status: others}), gitsync.Config{Repo: r.dir})
	check := func(after string) {
		t.Helper()
		got := status(c.store.View())
		if diff := cmp.Diff(others, object.ClusterStatus{Store: got.Store, Level: got.Level, Conditions: got.Conditions}); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", after, diff)
		}
	}
	first := r.put("a", "1")
	c.active(first)
	check("a good commit")
	c.rejected(r.mistake("a"))
	check("a bad one")
	must(t, os.Rename(r.dir, r.dir+".away"))
	eventually(t, "an error", func() bool { return status(c.store.View()).Error != "" })
	check("an error")
	must(t, os.Rename(r.dir+".away", r.dir))
	eventually(t, "the end of the error", func() bool { return status(c.store.View()).Error == "" })
	check("the end of it")
}

func TestTheClusterIsNamedByTheRepository(t *testing.T) {
	r := newRepo(t)
	r.write("mainstay.yaml", "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: prod}\n")
	first := r.commit("cluster")
	cluster, err := gitsync.ReadCluster(t.Context(), gitsync.Config{Repo: r.dir})
	if err != nil || cluster == nil || cluster.Name != "prod" || cluster.Spec.PodCIDR == "" {
		t.Fatalf("cluster = %+v, %v", cluster, err)
	}
	c := watching(t, r)
	if rev := revision(c.active(first), first); rev.Status.Created != 1 {
		t.Errorf("created = %d", rev.Status.Created)
	}
	r.write("mainstay.yaml", "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: other}\n")
	if problem := c.rejected(r.commit("rename")).Status.Problems[0]; problem.Path != "mainstay.yaml" || !strings.Contains(problem.Message, "name: prod") {
		t.Errorf("problem = %+v", problem)
	}
	r.write("mainstay.yaml", "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {nam: other}\n")
	r.commit("typing error")
	if _, err := gitsync.ReadCluster(t.Context(), gitsync.Config{Repo: r.dir}); err == nil || !strings.Contains(err.Error(), "mainstay.yaml:3:") {
		t.Errorf("error = %v, want the place of the mistake, so that no other id is taken", err)
	}
	r.git("rm", "-q", "mainstay.yaml")
	r.put("a", "1")
	if cluster, err := gitsync.ReadCluster(t.Context(), gitsync.Config{Repo: r.dir}); cluster != nil || err != nil {
		t.Errorf("cluster = %v, %v", cluster, err)
	}
}
