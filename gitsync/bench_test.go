package gitsync_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// application is a file with a Deployment of no replicas, a ConfigMap, a Service and a Secret.
func application(i int, image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web-%[1]d, labels: {app: web-%[1]d}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web-%[1]d}}
  template:
    metadata: {labels: {app: web-%[1]d}}
    spec:
      containers:
      - name: web
        image: example.com/web:%[2]s
        ports: [{name: http, containerPort: 8080}]
        envFrom: [{configMapRef: {name: web-%[1]d}}, {secretRef: {name: web-%[1]d}}]
        resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 128Mi}}
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-%[1]d}
data: {LEVEL: info, PORT: "8080"}
---
apiVersion: v1
kind: Service
metadata: {name: web-%[1]d}
spec:
  selector: {app: web-%[1]d}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Secret
metadata: {name: web-%[1]d}
stringData: {TOKEN: token-%[1]d}
`, i, image)
}

const applications = 1000

func manyApplications(b *testing.B) (repo, string) {
	r := newRepo(b)
	for i := range applications {
		r.write(fmt.Sprintf("apps/%d/app-%d.yaml", i%50, i), application(i, "1"))
	}
	commit := r.commit("all of it")
	r.git("gc", "-q")
	return r, commit
}

// BenchmarkActivateAll takes in 4 000 objects, from a store that knows nothing to Active.
func BenchmarkActivateAll(b *testing.B) {
	r, commit := manyApplications(b)
	for b.Loop() {
		c := watching(b, r)
		c.active(commit)
		c.stop()
	}
	b.ReportMetric(residentMiB(b), "peak-MiB")
}

// residentMiB is the most memory this process has had.
func residentMiB(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	must(b, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	must(b, err)
	return float64(kib) / 1024
}

// BenchmarkActivateOne commits one file of a thousand and waits until it is Active; making the commit is not counted.
func BenchmarkActivateOne(b *testing.B) {
	r, commit := manyApplications(b)
	store := statetest.New(b)
	c := follow(b, store, gitsync.Config{Repo: r.dir})
	c.active(commit)
	c.stop()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		// A new term each time: one alone would make the later commits wait, taking them for a flood.
		registry := prometheus.NewRegistry()
		c := followWith(b, store, gitsync.Config{Repo: r.dir}, gitsync.NewMetrics(registry))
		eventually(b, "the head is read", func() bool { return measured(b, registry, "mainstay_revision_load_seconds") > 0 })
		file := fmt.Sprintf("apps/%d/app-%d.yaml", i%50, i%applications)
		r.write(file, application(i%applications, fmt.Sprint("v", i)))
		r.git("add", file)
		next := r.git("commit-tree", "-p", "HEAD", "-m", "next", r.git("write-tree"))
		move := exec.Command("git", "update-ref", "refs/heads/main", next)
		move.Dir = r.dir
		b.StartTimer()
		must(b, move.Run())
		c.active(next)
		b.StopTimer()
		c.stop()
		b.StartTimer()
	}
}
