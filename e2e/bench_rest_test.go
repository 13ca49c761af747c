package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	settle = 10 * time.Second // what is measured is rest, not the last of the start
	idle   = 20 * time.Second
)

// BenchmarkIdle measures `mainstay up` with the demo's repository, its probes running, for 20 s a round.
func BenchmarkIdle(b *testing.B) {
	c := newCluster(b, demo(b))
	c.unread(b)
	c.up(b)
	c.converge(b, c.head(b))
	time.Sleep(settle)
	var used, passed time.Duration
	var resident float64
	for b.Loop() {
		began, before := time.Now(), c.processor(b)
		time.Sleep(idle)
		used += c.processor(b) - before
		passed += time.Since(began)
		resident = max(resident, c.memory(b, "VmRSS"))
	}
	b.ReportMetric(resident, "resident-MiB")
	b.ReportMetric(c.memory(b, "VmHWM"), "peak-MiB")
	b.ReportMetric(100*float64(used)/float64(passed), "%core")
	b.ReportMetric(0, "ns/op")
}

// demo is the repository of `make demo`.
func demo(b *testing.B) map[string]string {
	root, files := "../examples/repo", map[string]string{}
	check(b, filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		// The test hosts' image holds one program, /app.
		files[strings.TrimPrefix(path, root+"/")] = strings.ReplaceAll(string(content), "[/hello, check]", "[/app, check]")
		return err
	}))
	return files
}

// BenchmarkKilled kills `mainstay up` with 50 Pods and starts it again. s/restart is from the start of the new process until the
// agent has reported what runs and the API shows all Pods Ready. It fails if a container was touched.
func BenchmarkKilled(b *testing.B) {
	c := newCluster(b, map[string]string{"web.yaml": sleepers("web", "hello:1.0", replicas)})
	c.args = fromOutside
	c.up(b)
	c.converge(b, c.head(b))
	before := c.containers(b)
	var took []time.Duration
	for b.Loop() {
		c.kill(b)
		known := c.registrations(b)
		began := time.Now()
		c.start(b)
		c.registered(b, known)
		c.awaitReady(b, replicas)
		took = append(took, time.Since(began))
		time.Sleep(2 * time.Second) // time to do harm
		if diff := cmp.Diff(before, c.containers(b)); diff != "" || len(before) != 2*replicas {
			b.Errorf("P5: of %d containers, some were touched:\n%s", len(before), diff)
		}
	}
	b.ReportMetric(mean(took).Seconds(), "s/restart")
	b.ReportMetric(0, "ns/op")
}

// awaitReady asks until all Pods are Ready; list fails for a server that does not answer yet, so ask only one that does.
func (c *cluster) awaitReady(b *testing.B, n int) {
	b.Helper()
	type pod struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	a := c.api(b)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		ready, all := 0, list[pod](b, a, "/api/v1/pods")
		for _, p := range all {
			if strings.Contains(fmt.Sprint(p.Status.Conditions), "{Ready True}") {
				ready++
			}
		}
		if ready == n && len(all) == n {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d Pods are Ready", ready, len(all))
		}
	}
}
