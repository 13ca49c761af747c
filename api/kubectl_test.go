package api_test

import (
	"bufio"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

var update = flag.Bool("update", false, "write testdata/kubectl anew from what kubectl prints")

// unstable is what differs from run to run.
var unstable = []struct {
	pattern *regexp.Regexp
	stable  string
}{
	{regexp.MustCompile(`\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000`), "<date>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "<server>"},
	{regexp.MustCompile(`go1\.[0-9.]+`), "<go>"},
}

func stable(s string) string {
	for _, u := range unstable {
		s = u.pattern.ReplaceAllString(s, u.stable)
	}
	return s
}

// TestKubectlTranscripts plays the commands of testdata/kubectl against the shop and compares what the real kubectl prints.
func TestKubectlTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/kubectl/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	s := serve(t, api.Config{}, shop()...)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel() // they only read, or are refused
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for line := range strings.Lines(string(raw)) {
				command, ok := strings.CutPrefix(line, "$ kubectl ")
				if !ok {
					continue
				}
				stdout, stderr, _ := s.run(strings.Fields(command)...) // whether it failed shows in what it printed
				got.WriteString(line + stable(stdout+stderr))
				if !strings.HasSuffix(got.String(), "\n") {
					got.WriteString("\n")
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(raw), got.String()); diff != "" {
				t.Errorf("kubectl printed something else (-want +got):\n%s", diff)
			}
		})
	}
}

// follow starts a kubectl that keeps printing, and returns a function that waits for a line with all of some words.
func (s *server) follow(args ...string) func(words ...string) string {
	s.t.Helper()
	cmd := s.kubectl(args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	return func(words ...string) string {
		s.t.Helper()
		seen := ""
		for lines.Scan() {
			seen += lines.Text() + "\n"
			all := true
			for _, word := range words {
				all = all && strings.Contains(lines.Text(), word)
			}
			if all {
				return lines.Text()
			}
		}
		s.t.Fatalf("kubectl %s ended without a line with %q:\n%s", strings.Join(args, " "), words, seen)
		return ""
	}
}

func setPhase(t testing.TB, s *state.Store, key state.Key, phase corev1.PodPhase) {
	t.Helper()
	statetest.Update(t, s, func(tx *state.Txn) {
		p, _ := state.Get[*corev1.Pod](tx, key)
		p = p.DeepCopy()
		p.Status.Phase = phase
		tx.SetStatus(p)
	})
}

func remove(t testing.TB, s *state.Store, key state.Key) {
	t.Helper()
	statetest.Update(t, s, func(tx *state.Txn) {
		p, _ := state.Get[*corev1.Pod](tx, key)
		tx.Delete(p)
	})
}

func TestKubectlWatches(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	expect := s.follow("get", "pods", "-n", "shop", "-l", "app=web", "-w", "--output-watch-events")
	expect("ADDED", "web-5d4f8-bbbbb", "Running")
	late := pod("shop", "late", "")
	late.Labels = map[string]string{"app": "web"}
	statetest.Put(t, s.store, late)
	expect("ADDED", "late", "Pending")
	key := state.Key{Namespace: "shop", Name: "late"}
	setPhase(t, s.store, key, corev1.PodRunning)
	expect("MODIFIED", "late", "Running")
	statetest.Update(t, s.store, func(tx *state.Txn) {
		p, _ := state.Get[*corev1.Pod](tx, key)
		p = p.DeepCopy()
		p.Labels["app"] = "other"
		tx.Update(p)
	})
	expect("DELETED", "late") // it has left the selector
}

func TestKubectlWaitsForRollout(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	behind := func(updated, available int32) {
		statetest.Update(t, s.store, func(tx *state.Txn) {
			d, _ := state.Get[*appsv1.Deployment](tx, state.Key{Namespace: "shop", Name: "web"})
			d = d.DeepCopy()
			d.Status.UpdatedReplicas, d.Status.AvailableReplicas = updated, available
			tx.SetStatus(d)
		})
	}
	behind(1, 2)
	expect := s.follow("rollout", "status", "deploy/web", "-n", "shop")
	expect("1 out of 2 new replicas have been updated")
	behind(2, 1)
	expect("1 of 2 updated replicas are available")
	behind(2, 2)
	expect("successfully rolled out")

	for len(s.watch) > 0 {
		<-s.watch
	}
	gone := s.follow("wait", "pod/web-5d4f8-aaaaa", "-n", "shop", "--for=delete", "--timeout=30s")
	<-s.watch
	remove(t, s.store, state.Key{Namespace: "shop", Name: "web-5d4f8-aaaaa"})
	gone("condition met")
}
