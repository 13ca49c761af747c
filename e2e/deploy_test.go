package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPushDeploysAndAnImageChangeRolls(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 2)})
	c.up(t)
	c.converge(t, c.head(t))
	before := c.pods(t)
	if len(before) != 2 || !before[0].Ready || !before[1].Ready {
		t.Fatalf("pods = %+v, want 2 Ready", before)
	}
	for _, p := range before {
		if out := c.host.Run(t, binary(t, "github.com/mainstay-cluster/mainstay/e2e/get"), "http://"+p.IP+":8080/"); !strings.Contains(out, p.Name) {
			t.Errorf("pod %s answers %q", p.Name, out)
		}
	}
	if out := c.kubectl(t, "get", "deployment", "web"); !strings.Contains(out, "2/2") {
		t.Errorf("kubectl get deployment: %s", out)
	}
	c.kubectl(t, "rollout", "status", "deployment/web", "--timeout=60s")

	second := c.commit(t, "web 2.0", map[string]string{"web.yaml": deployment("web", "hello:2.0", 2)})
	c.converge(t, second)
	c.eventually(t, "the old Pods are gone", func() error {
		pods := c.pods(t)
		for _, p := range pods {
			if p.Image != "hello:2.0" {
				return fmt.Errorf("%s still runs %s", p.Name, p.Image)
			}
		}
		if len(pods) != 2 {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
	if out := c.mainstay(t, "history"); !strings.Contains(out, second[:7]) || !strings.Contains(out, "web 2.0") {
		t.Errorf("history: %s", out)
	}
	if out := c.mainstay(t, "describe", "pod", c.pods(t)[0].Name); !strings.Contains(out, "web.yaml:1") || !strings.Contains(out, second[:7]) || !strings.Contains(out, "Ada") {
		t.Errorf("P7: describe does not name file, line, commit and author:\n%s", out)
	}
}

func TestOnlyWhatChangedIsTouched(t *testing.T) {
	c := newCluster(t, map[string]string{"a.yaml": deployment("a", "hello:1.0", 1), "b.yaml": deployment("b", "hello:1.0", 1)})
	c.up(t)
	c.converge(t, c.head(t))
	before := c.containers(t)

	// A moved file, a comment, a label on the Deployment itself and more replicas of the other: no container changes.
	moved := "# moved\n" + strings.Replace(deployment("a", "hello:1.0", 1), "  name: a\n", "  name: a\n  labels: {team: x}\n", 1)
	c.converge(t, c.commit(t, "move", map[string]string{"a.yaml": "", "apps/a.yaml": moved, "b.yaml": deployment("b", "hello:1.0", 2)}))
	after := c.containers(t)
	for name, was := range before {
		if diff := cmp.Diff(was, after[name]); diff != "" {
			t.Errorf("P4: %s was touched:\n%s", name, diff)
		}
	}
	if len(after) != len(before)+2 {
		t.Errorf("%d containers, want the %d of before and a second Pod of b: %v", len(after), len(before), slices.Sorted(maps.Keys(after)))
	}
}

func TestRejectedCommitLeavesTheLastGoodOneRunning(t *testing.T) {
	c := newCluster(t, map[string]string{"web.yaml": deployment("web", "hello:1.0", 1)})
	c.up(t)
	good := c.head(t)
	c.converge(t, good)
	before := c.containers(t)

	bad := c.commit(t, "typo", map[string]string{
		"web.yaml":   strings.Replace(deployment("web", "hello:2.0", 1), "replicas", "replica", 1),
		"other.yaml": deployment("other", "hello:1.0", 1),
	})
	out, err := c.try("wait", "--commit", bad, "--timeout", "30s")
	if err == nil || !strings.Contains(err.Error(), "web.yaml:6:3") {
		t.Errorf("wait for a rejected commit: %v\n%s\nwant exit code 1 and the problem's place", err, out)
	}
	if diff := cmp.Diff(before, c.containers(t)); diff != "" {
		t.Errorf("P2: a rejected commit touched containers:\n%s", diff)
	}
	c.converge(t, c.commit(t, "fixed", map[string]string{"web.yaml": deployment("web", "hello:2.0", 1)}))
}

func TestRemovedFromGitIsRemovedFromTheHost(t *testing.T) {
	c := newCluster(t, map[string]string{"a.yaml": deployment("a", "hello:1.0", 1), "b.yaml": deployment("b", "hello:1.0", 1)})
	foreign := c.foreignContainer(t)
	c.up(t)
	c.converge(t, c.head(t))
	c.converge(t, c.commit(t, "drop b", map[string]string{"b.yaml": ""}))
	c.eventually(t, "b's containers are gone", func() error {
		for name := range c.containers(t) {
			if strings.Contains(name, "_b-") {
				return errors.New(name + " still runs")
			}
		}
		return nil
	})
	if !c.running(t, foreign) {
		t.Error("P12: a container that Mainstay did not create is gone")
	}
}

func TestSecretValuesAppearNowhere(t *testing.T) {
	const canary = "c4n4ry-5ecret-value"
	c := newCluster(t, map[string]string{
		"web.yaml": strings.Replace(deployment("web", "hello:1.0", 1), "        ports:", "        env:\n        - name: TOKEN\n          valueFrom: {secretKeyRef: {name: s, key: token}}\n        ports:", 1),
		"s.yaml":   "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: " + canary + "}\n",
	})
	c.up(t)
	c.converge(t, c.head(t))
	c.commit(t, "bad secret", map[string]string{"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {token: " + canary + "}\n"})
	_, err := c.try("wait", "--commit", c.head(t), "--timeout", "30s")
	seen := fmt.Sprint(err)
	for _, args := range [][]string{
		{"get", "secrets,sources,revisions,events,configmaps,pods", "-A", "-o", "yaml"}, {"history", "-o", "json"},
		{"describe", "secret", "s"}, {"describe", "pod", c.pods(t)[0].Name}, {"status"}, {"plan", c.repo}, {"lint", c.repo},
	} {
		out, err := c.try(args...)
		seen += out + fmt.Sprint(err)
	}
	log, readErr := os.ReadFile(c.logPath())
	if readErr != nil {
		t.Fatal(readErr)
	}
	seen += string(log)
	for _, form := range []string{canary, "YzRuNHJ5LTVlY3JldC12YWx1ZQ"} { // plain and base64
		if i := strings.Index(seen, form); i >= 0 {
			t.Errorf("P11: the value appears: …%s…", seen[max(0, i-200):min(len(seen), i+80)])
		}
	}
	// It does reach the container, and only there.
	if out := c.host.Run(t, "cat", filepath.Join("/proc", fmt.Sprint(c.app(t, "web").Pid), "environ")); !strings.Contains(out, canary) {
		t.Error("the container did not get the value")
	}
}
