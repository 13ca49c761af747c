package cli

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
)

func bigReport() *plan.Report {
	return &plan.Report{
		Counts: plan.Counts{Created: 1, Changed: 2, Replaced: 1, Deleted: 1, Untouched: 34, Moved: 2},
		Objects: []plan.ObjectChange{
			{Action: plan.Create, APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "api", Path: "apps/api.yaml", Line: 3},
			{Action: plan.Update, APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "web", Path: "apps/web.yaml", Line: 12, Fields: []plan.FieldChange{
				{Path: "spec.replicas", Old: "2", New: "4"},
				{Path: "spec.template.spec.containers[name=web].image", Old: `"web:1"`, New: `"web:2"`},
				{Path: "spec.paused", Old: "true"},
				{Path: "spec.minReadySeconds", New: "5"},
			}},
			{Action: plan.Update, APIVersion: "v1", Kind: "Secret", Namespace: "default", Name: "token", Path: "apps/web.yaml", Line: 40, Fields: []plan.FieldChange{
				{Path: "data.key", Old: plan.Concealed, New: plan.Concealed},
			}},
			{Action: plan.Replace, APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: "tool", Path: "tool.yaml", Line: 1, Fields: []plan.FieldChange{
				{Path: "spec.nodeName", Old: `"n1"`, New: `"n2"`},
			}},
			{Action: plan.Delete, APIVersion: "v1", Kind: "Namespace", Name: "old", Path: "old.yaml", Line: 1},
		},
		Pods: plan.PodReport{Kept: 12, Replaced: 3, Created: 3, Unschedulable: 1, Workloads: []plan.Workload{
			{Kind: "Deployment", Namespace: "default", Name: "web", Replaced: 2, Created: 2, Nodes: []plan.NodeShare{{Node: "n1", Pods: 2}, {Node: "n2", Pods: 1}},
				Unschedulable: []plan.Unschedulable{{Reason: "0/2 nodes are available: 2 Insufficient cpu.", Pods: 1}}},
			{Kind: "Pod", Namespace: "default", Name: "tool", Replaced: 1, Nodes: []plan.NodeShare{{Node: "n2", Pods: 1}}},
		}},
	}
}

func TestPrintPlan(t *testing.T) {
	for name, r := range map[string]*plan.Report{
		"plan-changes":  bigReport(),
		"plan-nothing":  {Counts: plan.Counts{Untouched: 34, Moved: 1}},
		"plan-rejected": {Problems: rejected(noon).Status.Problems},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := printPlan(&b, r); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.String())
		})
	}
}

func TestPlanOfWorktreeRefAndDirectory(t *testing.T) {
	cluster := clusterAt(commit1, "")
	cluster.Status.Path = "deploy"
	c := startCluster(t, cluster)
	repo := repository(t, map[string]string{"deploy/a.yaml": configMap("a", "old"), "deploy/.mainstayignore": "*.json\n", "other/x.yaml": "x: y\n", "deploy/README.md": "hi"})
	commitFiles(t, repo, map[string]string{"deploy/a.yaml": configMap("a", "new")})
	writeFile(t, "deploy/sub/b.yaml", configMap("b", "uncommitted"))
	for name, tc := range map[string]struct {
		arg   []string
		path  string
		files []string
		a     string // what stands in a.yaml
		title string
	}{
		"worktree":  {nil, "deploy", []string{".mainstayignore", "a.yaml", "sub/b.yaml"}, "new", "Plan of the worktree here, below deploy\n"},
		"ref":       {[]string{"HEAD~1"}, "deploy", []string{".mainstayignore", "a.yaml"}, "old", `"Change things"`},
		"branch":    {[]string{"master"}, "deploy", []string{".mainstayignore", "a.yaml"}, "new", `"Change things"`},
		"directory": {[]string{"deploy/sub"}, "", []string{"b.yaml"}, "", "Plan of the files in deploy/sub\n"},
		"path":      {[]string{"HEAD", "--path", "/deploy/"}, "deploy", []string{".mainstayignore", "a.yaml"}, "new", "Plan of"},
		"other":     {[]string{"--path", "/deploy/sub/"}, "deploy/sub", []string{"b.yaml"}, "", "Plan of the worktree here, below deploy/sub\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.run(t, append([]string{"plan"}, tc.arg...)...)
			if got.code != 0 || !strings.Contains(got.out, tc.title) {
				t.Fatalf("code %d: %s%s", got.code, got.out, got.err)
			}
			asked := c.asked(t)
			if diff := cmp.Diff(tc.files, slices.Sorted(maps.Keys(asked.Files))); diff != "" || asked.Path != tc.path {
				t.Errorf("path %q, files (-want +got):\n%s", asked.Path, diff)
			}
			if !strings.Contains(string(asked.Files["a.yaml"]), tc.a) {
				t.Errorf("a.yaml is %q", asked.Files["a.yaml"])
			}
		})
	}
}

func TestPlanExitCodes(t *testing.T) {
	c := startCluster(t, clusterAt(commit1, ""))
	repo := repository(t, map[string]string{"a.yaml": configMap("a", "b")})
	c.plan = *bigReport()
	if got := c.run(t, "plan"); got.code != 1 || !strings.Contains(got.out, "~ Deployment default/web") {
		t.Errorf("changes: code %d: %s%s", got.code, got.out, got.err)
	}
	c.asked(t)
	c.plan = plan.Report{Problems: []object.Problem{{Path: "a.yaml", Message: "the server knows better"}}}
	if got := c.run(t, "plan", "-o", "json"); got.code != 2 || !strings.Contains(got.out, "the server knows better") {
		t.Errorf("rejected by the server: code %d: %s%s", got.code, got.out, got.err)
	}
	c.asked(t)
	commitFiles(t, repo, map[string]string{"bad.yaml": "kind: Nonsense\n"})
	for name, tc := range map[string]struct{ arg, want string }{
		"rejected here": {"HEAD", "bad.yaml:1:"},
		"no such ref":   {"nowhere", "error: \"nowhere\" is neither a directory nor a commit of the repository here\n"},
		"no such path":  {"/nowhere", "error: there is no directory /nowhere\n"},
		"no such place": {"../nowhere", "error: there is no directory ../nowhere\n"},
	} {
		if got := c.run(t, "plan", tc.arg); got.code != 2 || !strings.Contains(got.out+got.err, tc.want) {
			t.Errorf("%s: code %d: %s%s", name, got.code, got.out, got.err)
		}
	}
}

func TestPlanOfADirectoryTakesNoPath(t *testing.T) {
	c := startCluster(t, clusterAt(commit1, ""))
	repository(t, map[string]string{"deploy/a.yaml": configMap("a", "b")})
	got := c.run(t, "plan", "deploy", "--path", "nowhere")
	if got.code != 2 || !strings.HasPrefix(got.err, "error: --path goes with a REF or the worktree; deploy stands for the directory itself\n") {
		t.Errorf("code %d: %s%s", got.code, got.out, got.err)
	}
	t.Setenv("MAINSTAY_PATH", "clusters/prod") // for `up`
	if got := c.run(t, "plan", "deploy"); got.code != 0 {
		t.Errorf("with the path of another command in the environment: code %d: %s%s", got.code, got.out, got.err)
	}
}
