package server

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// P8: what `mainstay plan` says of a commit is what becomes of it: the same objects, and as many Pods made, kept and gone.
func TestP8ThePlanIsTheChange(t *testing.T) {
	job := `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"}, "spec": {"containers": [{"name": "main", "image": "hello:1.0"}]}}`
	base := map[string]string{"job.json": job, "web.yaml": web, "db.yaml": strings.ReplaceAll(web, "web", "db"), "old.yaml": strings.ReplaceAll(web, "web", "old")}
	s := newSite(t, base)
	running, _ := s.start(t)
	until(t, running, "10 Pods run", converged(10))
	for _, change := range []map[string]string{
		{"web.yaml": strings.Replace(web, "1.0", "2.0", 1), "old.yaml": "# nothing any more\n"},
		{"db.yaml": strings.Replace(base["db.yaml"], "replicas: 3", "replicas: 5", 1)},
		{"job.json": strings.Replace(job, "1.0", "2.0", 1)},
		{"db.yaml": strings.Replace(base["db.yaml"], "{name: db}", "{name: db, labels: {tier: back}}", 1)},
	} {
		maps.Copy(base, change)
		foretold := s.plan(t, running, base)
		before := uids(running.store.View())
		s.commit(t, change)
		pods := foretold.Pods
		until(t, running, "a commit converges", carriedOut(s.head(t), pods.Kept+pods.Created+pods.Replaced))

		kept := 0
		for _, uid := range uids(running.store.View()) {
			if slices.Contains(before, uid) {
				kept++
			}
		}
		rev, _ := state.Get[*object.Revision](running.store.View(), state.Key{Name: s.head(t)[:12]})
		became := plan.Counts{Created: int(rev.Status.Created), Changed: int(rev.Status.Changed) - foretold.Counts.Replaced, Replaced: foretold.Counts.Replaced, Deleted: int(rev.Status.Deleted), Untouched: int(rev.Status.Untouched)}
		if diff := cmp.Diff(foretold.Counts, became); diff != "" {
			t.Errorf("objects (-foretold +became):\n%s", diff)
		}
		if gone := len(before) - kept; kept != pods.Kept || gone != pods.Replaced+pods.Deleted {
			t.Errorf("%d Pods were kept and %d went; foretold: %+v", kept, gone, pods)
		}
	}
}

// carriedOut says that a commit has converged and n Pods are left.
func carriedOut(commit string, n int) func(state.Reader) bool {
	return func(r state.Reader) bool {
		rev, ok := state.Get[*object.Revision](r, state.Key{Name: commit[:12]})
		return ok && rev.Status.Phase == object.RevisionConverged && state.Len[*corev1.Pod](r) == n
	}
}

// plan asks the server as the command does.
func (s *site) plan(t *testing.T, running *server, files map[string]string) plan.Report {
	t.Helper()
	req := api.PlanRequest{Files: map[string][]byte{}}
	for name, content := range files {
		req.Files[name] = []byte(content)
	}
	answer, err := running.plan(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	report := answer.(plan.Report)
	if len(report.Problems) > 0 || report.Pods.Unfinished != "" {
		t.Fatalf("the plan: %+v", report)
	}
	return report
}
