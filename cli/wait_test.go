package cli

import (
	"strings"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// Of commits that come in a burst only the last is taken in: who waits for one before it hears of the last one, at once.
func TestWaitForACommitThatWasPassedOver(t *testing.T) {
	repo := repository(t, map[string]string{"a.yaml": configMap("a", "1")})
	first := headOf(t, repo)
	commitFiles(t, repo, map[string]string{"a.yaml": configMap("a", "2")})
	second := headOf(t, repo)
	c := startCluster(t, clusterAt(second, second[:12]), revision(second, 1, object.RevisionConverged))
	for _, hash := range []string{first, first[:8], "HEAD~1"} {
		got := c.run(t, "wait", "--timeout", "1m", "--commit", hash)
		want := short(first) + " was superseded by " + short(second) + " before it was taken in: `mainstay wait --commit " + short(second) + "` waits for that one"
		if got.code != 1 || !strings.Contains(got.out, want) {
			t.Errorf("--commit %s: code %d, stderr %q, stdout %q, want %q", hash, got.code, got.err, got.out, want)
		}
	}
}

func TestWaitForACommitThatMayYetCome(t *testing.T) {
	repo := repository(t, map[string]string{"a.yaml": configMap("a", "1")})
	first := headOf(t, repo)
	commitFiles(t, repo, map[string]string{"a.yaml": configMap("a", "2")})
	second := headOf(t, repo)
	for name, tc := range map[string]struct {
		head string // the cluster's
		wait string
		tip  string // where the branch here stands
		seen string // the commit that has a revision
	}{
		"the branch was put back":                {head: second, seen: second, wait: first, tip: first},
		"the head is still being read":           {head: second, seen: commit1, wait: first, tip: second},
		"it comes after the head":                {head: first, seen: first, wait: second, tip: second},
		"the head is not known here":             {head: commit2, seen: commit2, wait: first, tip: second},
		"nobody here knows what is waited for":   {head: second, seen: second, wait: commit2, tip: second},
		"it was put back where it was pulled to": {head: second, seen: second, wait: first, tip: "origin/" + first},
	} {
		t.Run(name, func(t *testing.T) {
			tip, remote := strings.CutPrefix(tc.tip, "origin/")
			setBranch(t, repo, plumbing.NewBranchReferenceName("main"), tip)
			if remote {
				setBranch(t, repo, plumbing.NewBranchReferenceName("main"), second)
				setBranch(t, repo, plumbing.NewRemoteReferenceName("origin", "main"), tip)
			}
			c := startCluster(t, clusterAt(tc.head, tc.seen[:12]), revision(tc.seen, 1, object.RevisionConverged))
			got := c.run(t, "wait", "--timeout", "300ms", "--commit", tc.wait)
			if got.code != 2 || !strings.Contains(got.err, "has not converged within") {
				t.Errorf("code %d, stdout %q, stderr %q", got.code, got.out, got.err)
			}
		})
	}
}

// Somebody else's push takes the branch past the commit, to one that is not known here.
func TestWaitForACommitThatOthersWentPast(t *testing.T) {
	repo := repository(t, map[string]string{"a.yaml": configMap("a", "1")})
	first := headOf(t, repo)
	commitFiles(t, repo, map[string]string{"a.yaml": configMap("a", "2")})
	second := headOf(t, repo)
	c := startCluster(t, clusterAt(first, first[:12]), revision(first, 1, object.RevisionConverged))
	out := &lines{}
	out.each = func(n int) {
		if n == 1 { // it waits
			statetest.Put(t, c.store, revision(commit2, 2, object.RevisionActive))
			statetest.Update(t, c.store, func(tx *state.Txn) {
				for cluster := range state.List[*object.Cluster](tx, "") {
					cluster = cluster.DeepCopy()
					cluster.Status.Head = commit2
					tx.SetStatus(cluster)
				}
			})
		}
	}
	code := Execute(t.Context(), testRoot(out, out), []string{"wait", "--commit", second, "--timeout", "1m", "--kubeconfig", c.kubeconfig})
	got := strings.Join(out.text(), "\n")
	want := short(second) + " was not taken in, and branch main went on to " + short(commit2) + ", which is not in its history"
	if code != 1 || !strings.Contains(got, want) {
		t.Errorf("code %d, want %q; lines:\n%s", code, want, got)
	}
}

func TestLacksOnlyWhatIsCertain(t *testing.T) {
	repo := repository(t, map[string]string{"a.yaml": configMap("a", "1")})
	first := headOf(t, repo)
	commitFiles(t, repo, map[string]string{"a.yaml": configMap("a", "2")})
	second := headOf(t, repo)
	for name, tc := range map[string]struct {
		commit, head string
		want         bool
	}{
		"the head is not known here":   {second, commit2, true},
		"the head comes later":         {first, second, true},
		"the commit contains it":       {second, first, false},
		"the commit is the head":       {second, second, false},
		"the commit is not known here": {commit1, second, false},
	} {
		if got := lacks(tc.commit, tc.head); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if err := repo.Storer.SetShallow([]plumbing.Hash{plumbing.NewHash(second)}); err != nil {
		t.Fatal(err)
	}
	if lacks(second, commit2) {
		t.Error("of a shallow clone nobody knows what is not in it")
	}
}

func headOf(t *testing.T, repo *git.Repository) string {
	t.Helper()
	head, err := repo.Head()
	if err != nil {
		t.Fatal(err)
	}
	return head.Hash().String()
}

func setBranch(t *testing.T, repo *git.Repository, name plumbing.ReferenceName, hash string) {
	t.Helper()
	if err := repo.Storer.SetReference(plumbing.NewHashReference(name, plumbing.NewHash(hash))); err != nil {
		t.Fatal(err)
	}
}
