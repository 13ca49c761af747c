package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// app finds the app container of the only Pod of a Deployment.
func (c *cluster) app(t *testing.T, name string) container {
	t.Helper()
	for full, found := range c.containers(t) {
		if strings.HasPrefix(full, "ms_app_"+name+"-") {
			return found
		}
	}
	t.Fatalf("no app container of %s among %v", name, c.containers(t))
	return container{}
}

// foreignContainer runs a container that is none of Mainstay's business and returns its id.
func (c *cluster) foreignContainer(t *testing.T) string {
	t.Helper()
	var made struct {
		ID string `json:"Id"`
	}
	c.host.API(t, "POST", "/containers/create?name=somebody-elses", map[string]any{"Image": "hello:1.0", "Labels": map[string]string{"app": "web"}}, &made)
	c.host.API(t, "POST", "/containers/"+made.ID+"/start", nil, nil)
	return made.ID
}

func (c *cluster) running(t *testing.T, id string) bool {
	t.Helper()
	var inspect struct{ State struct{ Running bool } }
	c.host.API(t, "GET", "/containers/"+id+"/json", nil, &inspect)
	return inspect.State.Running
}

func TestKilledMainstayRestartsNoContainer(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 3)})
	c.up(t)
	c.converge(t, c.head(t))
	before := c.containers(t)
	for range 3 {
		c.kill(t)
		c.up(t)
	}
	c.ready(t, 3)
	if diff := cmp.Diff(before, c.containers(t)); diff != "" {
		t.Errorf("P5: killing Mainstay touched containers:\n%s", diff)
	}
	if revisions := c.mainstay(t, "get", "revisions", "-o", "name"); strings.Count(revisions, "\n") != 1 {
		t.Errorf("a restart made revisions:\n%s", revisions)
	}
}

// ready waits until n Pods are reported Ready and none is going.
func (c *cluster) ready(t testing.TB, n int) {
	t.Helper()
	c.eventually(t, fmt.Sprint(n, " Pods Ready"), func() error {
		pods, err := c.tryPods()
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range pods {
			if p.Ready && !p.Deleted {
				ready++
			}
		}
		if ready != n || len(pods) != n {
			return fmt.Errorf("%d of %d Pods are Ready: %+v", ready, len(pods), pods)
		}
		return nil
	})
}

func TestLostDataDirectoryIsRebuiltAndAdoptsWhatRuns(t *testing.T) {
	c := newCluster(t, map[string]string{
		"web.yaml":  deployment("web", "hello:1.0", 3),
		"pod.yaml":  "apiVersion: v1\nkind: Pod\nmetadata: {name: lone, labels: {app: lone}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {name: app, image: hello:1.0}\n",
		"gone.yaml": deployment("gone", "hello:1.0", 1),
	})
	c.up(t)
	c.converge(t, c.head(t))
	containers, pods := c.containers(t), c.pods(t)
	c.kill(t)
	if err := os.RemoveAll(c.data); err != nil {
		t.Fatal(err)
	}
	// Meanwhile the repository moves on: what it no longer wants goes, but nothing else is touched.
	second := c.commit(t, "drop gone", map[string]string{"gone.yaml": ""})
	c.up(t)
	c.converge(t, second)
	c.ready(t, 4)
	after := c.containers(t)
	for name, was := range containers {
		if strings.Contains(name, "gone-") {
			if _, still := after[name]; still {
				t.Errorf("%s still runs", name)
			}
			continue
		}
		if diff := cmp.Diff(was, after[name]); diff != "" {
			t.Errorf("%s was touched by the rebuild:\n%s", name, diff)
		}
	}
	uids := map[string]string{}
	for _, p := range pods {
		uids[p.Name] = p.UID
	}
	for _, p := range c.pods(t) {
		if uids[p.Name] != p.UID {
			t.Errorf("pod %s has uid %s, had %q", p.Name, p.UID, uids[p.Name])
		}
	}
}

func TestRebuildOfAnUnchangedRepositoryStartsAndStopsNothing(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 2)})
	c.up(t)
	c.converge(t, c.head(t))
	before := c.containers(t)
	c.stop(t)
	if err := os.RemoveAll(c.data); err != nil {
		t.Fatal(err)
	}
	c.up(t)
	c.converge(t, c.head(t))
	c.ready(t, 2)
	if diff := cmp.Diff(before, c.containers(t)); diff != "" {
		t.Errorf("the rebuild touched containers:\n%s", diff)
	}
	log, err := os.ReadFile(c.logPath())
	if err != nil || !strings.Contains(string(log), "0 to start, 0 to stop") {
		t.Errorf("the log does not say 0 to start, 0 to stop (%v):\n%s", err, tail(log, 4096))
	}
}

func TestEngineRestartWithLiveRestoreRestartsNoContainer(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 2)})
	c.up(t)
	c.converge(t, c.head(t))
	before := c.containers(t)
	c.host.StopEngine(t)
	c.host.StartEngine(t)
	c.host.KillEngine(t)
	c.host.StartEngine(t)
	// The agent sees the engine again when a new Pod comes up.
	c.converge(t, c.commit(t, "another", map[string]string{"late.yaml": deployment("late", "hello:1.0", 1)}))
	after := c.containers(t)
	for name, was := range before {
		if diff := cmp.Diff(was, after[name]); diff != "" {
			t.Errorf("P5: restarting the engine touched %s:\n%s", name, diff)
		}
	}
}

func TestContainersTamperedWithByHandAreRepaired(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 1)})
	c.up(t)
	c.converge(t, c.head(t))
	name := c.pods(t)[0].Name
	for _, step := range []struct{ what, method, path string }{
		{"killed", "POST", "/containers/%s/kill"},
		{"paused", "POST", "/containers/%s/pause"},
		{"renamed", "POST", "/containers/%s/rename?name=renamed"},
	} {
		t.Run(step.what, func(t *testing.T) {
			was := c.anyApp(t)
			c.host.API(t, step.method, fmt.Sprintf(step.path, was.ID), nil, nil)
			c.eventually(t, "the Pod answers again", func() error { return c.answers(t) })
			if got := c.pods(t); len(got) != 1 || got[0].Name != name {
				t.Errorf("pods = %+v, want still %s", got, name)
			}
		})
	}
	t.Run("removed", func(t *testing.T) {
		c.host.API(t, "DELETE", "/containers/"+c.anyApp(t).ID+"?force=true", nil, nil)
		c.repairedAtOnce(t)
	})
	t.Run("sandbox removed", func(t *testing.T) {
		for full, found := range c.containers(t) {
			if !strings.HasPrefix(full, "ms_app_") && full != "renamed" {
				c.host.API(t, "DELETE", "/containers/"+found.ID+"?force=true", nil, nil)
			}
		}
		c.repairedAtOnce(t)
	})
}

// repairedAtOnce waits until the Pod answers, and fails if it backed off meanwhile. A look at the moment between a container's
// forced end and its removal may show it as crashed, but only one that backs off for seconds is seen so again and again.
func (c *cluster) repairedAtOnce(t *testing.T) {
	t.Helper()
	const glimpses = 3
	seen := 0
	c.eventually(t, "the Pod answers again", func() error {
		out, err := c.try("get", "pods", "-o", "yaml")
		if err == nil && strings.Contains(out, "CrashLoopBackOff") {
			seen++
		}
		return c.answers(t)
	})
	if seen > glimpses {
		t.Errorf("the Pod backed off as if it had crashed: seen %d times", seen)
	}
}

// anyApp is the app container of the only Pod, whatever its name, once it runs: one that was killed may have answered in its last
// moment.
func (c *cluster) anyApp(t *testing.T) (app container) {
	t.Helper()
	c.eventually(t, "the app runs", func() error {
		all := c.containers(t)
		for full, found := range all {
			if strings.HasPrefix(full, "ms_app_") || full == "renamed" {
				app = found
				return nil
			}
		}
		return fmt.Errorf("no app container among %v", all)
	})
	return app
}

// answers asks the only Pod for its name over the network.
func (c *cluster) answers(t *testing.T) error {
	pods := c.pods(t)
	if len(pods) != 1 || pods[0].IP == "" {
		return fmt.Errorf("pods = %+v", pods)
	}
	_, err := c.run(binary(t, "github.com/mainstay-cluster/mainstay/e2e/get"), "http://"+pods[0].IP+":8080/healthz")
	return err
}

func TestNothingIsPrunedBecauseTheRepositoryIsUnreadable(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 1)})
	c.up(t)
	c.converge(t, c.head(t))
	good, before := c.head(t), c.containers(t)
	for _, fault := range []struct {
		name        string
		hurt, mend  func()
		statusNames string
	}{
		{"the branch is deleted", func() { c.git(t, "checkout", "-q", "--detach"); c.git(t, "branch", "-D", "main") }, func() { c.git(t, "checkout", "-q", "-b", "main", good) }, "main"},
		{"the repository is gone", func() { c.move(t, ".git", "away") }, func() { c.move(t, "away", ".git") }, ""},
		{"every manifest is deleted", func() { c.commit(t, "empty", map[string]string{"web.yaml": ""}) }, func() { c.git(t, "reset", "-q", "--hard", good) }, ""},
	} {
		t.Run(fault.name, func(t *testing.T) {
			fault.hurt()
			c.eventually(t, "status says so", func() error {
				out, err := c.try("status")
				if err == nil && !strings.Contains(strings.ToLower(out), "reject") {
					return fmt.Errorf("status is content:\n%s", out)
				}
				return nil
			})
			if diff := cmp.Diff(before, c.containers(t)); diff != "" {
				t.Errorf("P3: containers were touched:\n%s", diff)
			}
			fault.mend()
		})
	}
	c.converge(t, c.commit(t, "on we go", map[string]string{"web.yaml": deployment("web", "hello:2.0", 1)}))
}

func (c *cluster) move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(c.repo, from), filepath.Join(c.repo, to)); err != nil {
		t.Fatal(err)
	}
}
