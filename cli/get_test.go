package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestGet(t *testing.T) {
	labelled := readyPod("default", "web-2")
	labelled.Labels = map[string]string{"app": "web"}
	c := startCluster(t, readyPod("default", "web-1"), labelled, readyPod("other", "db-1"), deployment("web", 2, 1), node("n1"))
	for name, args := range map[string][]string{
		"get-pods":    {"get", "pods"},
		"get-all":     {"get", "all"},
		"get-A":       {"get", "po", "-A"},
		"get-wide":    {"get", "pods", "web-1", "-o", "wide"},
		"get-labels":  {"get", "pod", "-l", "app=web", "--show-labels"},
		"get-name":    {"get", "deploy,pods", "-o", "name"},
		"get-slashed": {"get", "pod/web-1", "pod/web-2", "deploy/web"},
		"get-namesp":  {"get", "pods", "-n", "other"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.run(t, args...)
			if got.code != 0 || got.err != "" {
				t.Fatalf("code %d, stderr %q", got.code, got.err)
			}
			golden(t, name, got.out)
		})
	}
}

func TestGetNodes(t *testing.T) {
	n1, declared := node("n1"), &corev1.Node{ObjectMeta: meta("", "n2"), Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "repair", Effect: "NoExecute"}}}}
	n1.Spec.PodCIDR, n1.Spec.Taints = "10.244.0.0/24", []corev1.Taint{{Key: "gpu", Value: "yes", Effect: "NoSchedule"}, {Key: "a", Effect: "NoExecute"}}
	pod := func(name, node string, phase corev1.PodPhase) *corev1.Pod {
		p := readyPod("default", name)
		p.Spec.NodeName, p.Status.Phase = node, phase
		return p
	}
	c := startCluster(t, n1, declared, node("n3"), pod("a", "n1", corev1.PodRunning), pod("b", "n1", corev1.PodPending),
		pod("ended", "n1", corev1.PodSucceeded), pod("c", "n3", corev1.PodRunning), pod("waits", "", corev1.PodPending))
	for name, args := range map[string][]string{
		"get-nodes":      {"get", "nodes"},
		"get-nodes-wide": {"get", "node", "n1", "n2", "-o", "wide"},
		"get-nodes-name": {"get", "nodes", "-o", "name"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.run(t, args...)
			if got.code != 0 || got.err != "" {
				t.Fatalf("code %d, stderr %q", got.code, got.err)
			}
			golden(t, name, got.out)
		})
	}
}

func TestGetDataIsWhatKubectlPrints(t *testing.T) {
	c := startCluster(t, readyPod("default", "web-1"))
	var single struct{ Kind, APIVersion string }
	var many struct {
		Kind  string
		Items []struct{ Kind, APIVersion string }
	}
	for _, read := range []struct {
		args []string
		into any
	}{
		{[]string{"get", "pod", "web-1", "-o", "json"}, &single},
		{[]string{"get", "pods", "-o", "json"}, &many},
	} {
		got := c.run(t, read.args...)
		if err := json.Unmarshal([]byte(got.out), read.into); err != nil || got.code != 0 {
			t.Fatalf("%v: code %d, %v: %s", read.args, got.code, err, got.err)
		}
	}
	if single.Kind != "Pod" || many.Kind != "List" || len(many.Items) != 1 || many.Items[0].APIVersion != "v1" {
		t.Errorf("single %+v, list %+v", single, many)
	}
}

func TestGetAnswersAndErrors(t *testing.T) {
	c := startCluster(t, readyPod("default", "web-1"), event("e1", "web-1", corev1.EventTypeNormal, time.Minute), &corev1.Namespace{ObjectMeta: meta("", "quiet")})
	for name, tc := range map[string]struct {
		args []string
		code int
		err  string
	}{
		"some elsewhere":      {[]string{"get", "pods,deploy", "-n", "quiet"}, 0, "No resources found in quiet namespace; other namespaces have some: -A\n"},
		"none such elsewhere": {[]string{"get", "pods", "-n", "quiet", "-l", "app=db"}, 0, "No resources found in quiet namespace.\n"},
		"no such namespace":   {[]string{"get", "pods", "-n", "nope"}, 1, "there is no namespace \"nope\"\n"},
		"events of no such":   {[]string{"events", "-n", "nope"}, 1, "there is no namespace \"nope\"\n"},
		"describe no such":    {[]string{"describe", "pods", "-n", "nope"}, 1, "there is no namespace \"nope\"\n"},
		"nothing there":       {[]string{"get", "deploy"}, 0, "No resources found in default namespace.\n"},
		"nothing anywhere":    {[]string{"get", "deploy", "-A"}, 0, "No resources found.\n"},
		"no such pod":         {[]string{"get", "pod", "x"}, 1, "there is no pod \"x\" in namespace default\n"},
		"no such pod as data": {[]string{"get", "pod", "x", "-o", "yaml"}, 1, "there is no pod \"x\" in namespace default\n"},
		"no such node":        {[]string{"get", "node", "x"}, 1, "there is no node \"x\"\n"},
		"one of two":          {[]string{"get", "pod", "web-1", "x"}, 1, "there is no pod \"x\" in namespace default\n"},
		"unknown kind":        {[]string{"get", "foo"}, 2, "error: there is no kind \"foo\". The kinds are namespaces (ns)"},
		"no kind":             {[]string{"get"}, 2, "error: say what kind of object: namespaces (ns)"},
		"bad format":          {[]string{"get", "pod", "-o", "xml"}, 2, "the formats are json, yaml, wide, name"},
		"bad selector":        {[]string{"get", "pod", "-l", "a in"}, 2, "error: --selector"},
		"name and selector":   {[]string{"get", "pod", "x", "-l", "a=b"}, 2, "either names or a selector"},
		"unknown flag":        {[]string{"get", "pod", "--bogus"}, 2, "See `mainstay get --help`"},
		"unknown command":     {[]string{"statsu", "-o", "json"}, 2, "error: no command \"statsu\"; did you mean status?\n"},
		"unlike any command":  {[]string{"xyzzy"}, 2, "error: no command \"xyzzy\"; `mainstay --help` lists them\n"},
		"argument too many":   {[]string{"history", "foo"}, 2, "error: `mainstay history` takes no arguments, but was given \"foo\"\n"},
		"no such unit":        {[]string{"logs", "web-1", "--since", "10x"}, 2, "error: --since must be a time with its unit, such as 90s, 10m or 1h30m, not \"10x\"\n"},
		"no number":           {[]string{"history", "--limit", "few"}, 2, "error: --limit must be a whole number, not \"few\"\n"},
		"events elsewhere":    {[]string{"events", "-n", "quiet"}, 0, "No events in quiet namespace; other namespaces have some: -A\n"},
		"negative time":       {[]string{"wait", "--commit", "1234567", "--timeout", "-3s"}, 2, "error: --timeout cannot be negative; 0 is for ever\n"},
		"negative limit":      {[]string{"history", "--limit", "-1"}, 2, "error: --limit cannot be negative; 0 is all that are kept\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.run(t, tc.args...)
			if got.code != tc.code || !strings.Contains(got.err, tc.err) {
				t.Errorf("code %d, want %d; stderr %q, want %q", got.code, tc.code, got.err, tc.err)
			}
		})
	}
}

func TestGetWatchPrintsARowPerChange(t *testing.T) {
	c := startCluster(t, readyPod("default", "web-1"))
	ctx, cancel := context.WithCancel(t.Context())
	out := &lines{wanted: 3, done: cancel}
	statetestPutAfter := func(n int) {
		if n == 2 { // the header and web-1 are printed, so the watch begins
			statetest.Put(t, c.store, readyPod("default", "web-2-with-a-longer-name"))
		}
	}
	out.each = statetestPutAfter
	root := testRoot(out, out)
	code := Execute(ctx, root, []string{"get", "pods", "-w", "--kubeconfig", c.kubeconfig})
	if code != exitInterrupt {
		t.Errorf("code %d, want %d", code, exitInterrupt)
	}
	if got := out.text(); len(got) != 3 || !strings.HasPrefix(got[2], "web-2-with-a-longer-name   1/1") {
		t.Errorf("lines:\n%s", strings.Join(got, "\n"))
	}
}

func TestGetWatchOfOneObjectSeesItsDeletion(t *testing.T) {
	c := startCluster(t, readyPod("default", "web-1"), readyPod("default", "web-2"))
	ctx, cancel := context.WithCancel(t.Context())
	out := &lines{wanted: 3, done: cancel}
	out.each = func(n int) {
		if n != 2 {
			return
		}
		statetest.Update(t, c.store, func(tx *state.Txn) {
			for pod := range state.List[*corev1.Pod](tx, "default") {
				tx.Delete(pod)
			}
		})
	}
	root := testRoot(out, out)
	Execute(ctx, root, []string{"get", "pod", "web-2", "-w", "--kubeconfig", c.kubeconfig})
	if got := out.text(); len(got) != 3 || !strings.HasPrefix(got[2], "web-2") {
		t.Errorf("lines:\n%s", strings.Join(got, "\n"))
	}
}

func TestRevisionsAreFoundByAnyBeginningOfTheirCommit(t *testing.T) {
	c := startCluster(t, revision(commit1, 1, object.RevisionConverged), revision("1111999"+commit2[7:], 2, object.RevisionActive))
	for name, code := range map[string]int{commit1: 0, "11111": 0, commit1[:12]: 0, "1111": 1, "abcdef": 1} {
		for _, command := range []string{"get", "describe"} {
			if got := c.run(t, command, "revision", name); got.code != code || code == 0 && !strings.Contains(got.out, commit1[:12]) {
				t.Errorf("%s %s: code %d, want %d: %s%s", command, name, got.code, code, got.out, got.err)
			}
		}
	}
}
