package gitsync_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestACommitBecomesActive(t *testing.T) {
	r := newRepo(t)
	first := r.put("a", "1")
	c := watching(t, r)
	snap := c.active(first)
	if got := value(snap, "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
	rev := revision(snap, first).DeepCopy()
	rev.Status.FetchedAt, rev.Status.ActivatedAt = nil, nil
	if diff := cmp.Diff(object.RevisionStatus{Phase: object.RevisionActive, Created: 1}, rev.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if rev.Spec.Author != "Ada <ada@example.com>" || rev.Spec.Subject != "a is 1" || rev.Spec.Branch != "main" || rev.Spec.Sequence != 1 {
		t.Errorf("spec = %+v", rev.Spec)
	}
	second := r.put("a", "2")
	snap = c.active(second)
	if old := revision(snap, first); old.Status.Phase != object.RevisionSuperseded || old.Status.EndedAt == nil {
		t.Errorf("the first revision is %s, want it superseded", old.Status.Phase)
	}
	if rev := revision(snap, second); rev.Spec.Sequence != 2 || rev.Status.Changed != 1 || status(snap).Revision != rev.Name {
		t.Errorf("second revision = %+v, in force %s", rev, status(snap).Revision)
	}
}

// Every way a reference can move in a repository on this machine is seen, and none is taken for another.
func TestEveryMoveOfTheBranchIsSeen(t *testing.T) {
	r := newRepo(t)
	first := r.put("a", "1")
	c := watching(t, r)
	c.active(first)

	second := r.put("a", "2")
	c.active(second)

	r.write("a.yaml", configMap("a", "amended"))
	r.git("add", "-A")
	r.git("commit", "-q", "--amend", "-m", "amended")
	c.active(r.git("rev-parse", "HEAD"))

	r.git("reset", "-q", "--hard", first)
	if got := value(c.active(first), "a"); got != "1" {
		t.Errorf("after a reset a = %q", got)
	}
	if rev := revision(c.store.View(), first); rev.Spec.Sequence != 4 {
		t.Errorf("sequence = %d, want the commit to count as the newest", rev.Spec.Sequence)
	}

	r.git("pack-refs", "--all")
	r.git("update-ref", "refs/heads/main", second)
	if got := value(c.active(second), "a"); got != "2" {
		t.Errorf("after packing and moving a = %q", got)
	}

	r.git("checkout", "-q", "-b", "other")
	r.put("a", "elsewhere")
	r.git("checkout", "-q", "main")
	r.git("merge", "-q", "--ff-only", "other")
	c.active(r.git("rev-parse", "main"))

	r.git("gc", "-q", "--prune=now")
	c.active(r.put("a", "after gc"))
}

func TestPackingReferencesIsNoChange(t *testing.T) {
	r := newRepo(t)
	c := watching(t, r)
	c.active(r.put("a", "1"))
	version := c.store.View().Version
	r.git("pack-refs", "--all", "--prune")
	r.git("gc", "-q")
	c.active(r.put("a", "2"))
	if err := status(c.store.View()).Error; err != "" {
		t.Errorf("error = %q", err)
	}
	// One ConfigMap, its Source, two Revisions, the Cluster, and the new Revision's own status.
	if now := c.store.View().Version; now > version+6 {
		t.Errorf("%d versions for one commit", now-version)
	}
}

func TestPushIntoABareRepository(t *testing.T) {
	bare := newRepo(t, "--bare")
	r := newRepo(t)
	first := r.put("a", "1")
	r.git("remote", "add", "origin", bare.dir)
	r.git("push", "-q", "origin", "main")
	c := watching(t, bare)
	c.active(first)
	second := r.put("a", "2")
	r.git("push", "-q", "origin", "main")
	c.active(second)
	r.git("push", "-q", "--force", "origin", first+":main")
	c.active(first)
}

func TestABranchInANewDirectoryOfReferences(t *testing.T) {
	r := newRepo(t)
	r.put("a", "1")
	c := follow(t, statetest.New(t), gitsync.Config{Repo: r.dir, Branch: "env/prod"})
	c.failing("the repository has no branch env/prod; it has main")
	r.git("checkout", "-q", "-b", "env/prod")
	c.active(r.put("a", "2"))
	c.active(r.put("a", "3"))
}

func TestALinkedWorktreeIsFollowed(t *testing.T) {
	r := newRepo(t)
	r.put("a", "1")
	linked := repo{t, filepath.Join(t.TempDir(), "linked")}
	r.git("worktree", "add", "-q", "-b", "side", linked.dir)
	c := watching(t, linked)
	c.active(linked.put("a", "side"))
	if got := status(c.store.View()).Branch; got != "side" {
		t.Errorf("branch = %q", got)
	}
}

func TestCheckingOutAnotherBranchMovesNothing(t *testing.T) {
	r := newRepo(t)
	first := r.put("a", "1")
	c := watching(t, r)
	c.active(first)
	r.git("checkout", "-q", "-b", "experiment")
	experiment := r.put("a", "x")
	r.git("checkout", "-q", "main")
	second := r.put("a", "2")
	snap := c.active(second)
	if revision(snap, experiment) != nil {
		t.Error("a branch that is not followed was activated")
	}
}

// P3: whatever happens to the repository, what runs stays.
func TestATroubledRepositoryDeletesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(r repo)
		want string
	}{
		"branch deleted":   {func(r repo) { r.git("checkout", "-q", "-b", "b"); r.git("branch", "-q", "-D", "main") }, "has no branch main; it has b"},
		"emptied":          {func(r repo) { r.git("update-ref", "-d", "refs/heads/main") }, "has no commits yet"},
		"moved away":       {func(r repo) { must(r.t, os.Rename(r.dir, r.dir+"-moved")) }, "does not exist"},
		"no repository":    {func(r repo) { must(r.t, os.RemoveAll(filepath.Join(r.dir, ".git"))) }, "is not a Git repository"},
		"commit is absent": {func(r repo) { r.write(".git/refs/heads/main", strings.Repeat("1", 40)+"\n") }, "commit 111111111111"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			c := follow(t, statetest.New(t), gitsync.Config{Repo: r.dir, Poll: 100 * time.Millisecond})
			first := r.put("a", "1")
			c.active(first)
			tc.harm(r)
			snap := c.failing(tc.want)
			if got := status(snap); value(snap, "a") != "1" || got.Revision != gitsync.RevisionName(first) || got.ErrorAt == nil {
				t.Errorf("a = %q, status = %+v", value(snap, "a"), got)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestARepositoryThatRecoversIsFollowedAgain(t *testing.T) {
	r := newRepo(t)
	c := follow(t, statetest.New(t), gitsync.Config{Repo: r.dir, Poll: 100 * time.Millisecond})
	c.active(r.put("a", "1"))
	must(t, os.Rename(r.dir, r.dir+"-moved"))
	c.failing("does not exist")
	must(t, os.Rename(r.dir+"-moved", r.dir))
	snap := c.active(r.put("a", "2"))
	if got := status(snap); got.Error != "" || got.ErrorAt != nil {
		t.Errorf("status = %+v", got)
	}
}

// A mirror that copies files in any order may show a commit before its blobs.
func TestAHalfPushedCommitIsTakenWhenItIsWhole(t *testing.T) {
	r := newRepo(t)
	c := watching(t, r)
	first := r.put("a", "1")
	c.active(first)
	r.write("a.yaml", configMap("a", "2"))
	blob := r.git("hash-object", "-w", "a.yaml")
	file := filepath.Join(r.dir, ".git/objects", blob[:2], blob[2:])
	hidden := filepath.Join(t.TempDir(), "blob")
	r.git("add", "-A")
	second := r.git("commit-tree", "-p", "HEAD", "-m", "half", r.git("write-tree"))
	must(t, os.Rename(file, hidden))
	r.git("update-ref", "refs/heads/main", second)
	snap := c.failing(blob)
	if value(snap, "a") != "1" || revision(snap, second) != nil {
		t.Errorf("a = %q, revision = %v", value(snap, "a"), revision(snap, second))
	}
	must(t, os.Rename(hidden, file))
	c.active(second)
}

func TestWhatIsNoRepositoryIsSaidSo(t *testing.T) {
	inside := newRepo(t)
	inside.write("apps/a.yaml", configMap("a", "1"))
	inside.commit("a")
	detached := newRepo(t)
	detached.put("a", "1")
	detached.git("checkout", "-q", "--detach")
	reftable := newRepo(t)
	reftable.put("a", "1")
	reftable.git("config", "extensions.refStorage", "reftable")
	for name, tc := range map[string]struct{ repo, want string }{
		"reftable":           {reftable.dir, "keeps its references as reftable, which Mainstay cannot read: convert it with `git refs migrate --ref-format=files`"},
		"below a repository": {filepath.Join(inside.dir, "apps"), "is inside the Git repository " + inside.dir},
		"no commits":         {newRepo(t).dir, "has no commits yet"},
		"detached":           {detached.dir, "HEAD names no branch: choose one with --branch; it has main"},
		"sha256":             {newRepo(t, "--object-format=sha256").dir, "object format is sha256"},
		"plain directory":    {t.TempDir(), "is not a Git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			c := follow(t, statetest.New(t), gitsync.Config{Repo: tc.repo})
			snap := c.failing(tc.want)
			if n := state.Len[*object.Revision](snap); n != 0 {
				t.Errorf("%d revisions", n)
			}
		})
	}
}
