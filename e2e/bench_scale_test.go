package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	applications = 1000 // of four objects each
	nextCommits  = 7
)

// BenchmarkFourThousandObjects activates them in one commit on a cluster that has been running without: active-s is from the
// moment the branch moves until a watch shows the commit Active. peak-MiB and resident-MiB are of the whole `mainstay up`: the
// most until the controllers are done with it, and what is left after ten seconds. next-ms is the median of commits that
// change one file of them, moved to Active; plan-s is `mainstay plan` of a commit that changes all Deployments.
func BenchmarkFourThousandObjects(b *testing.B) {
	c := newCluster(b, map[string]string{"nothing.yaml": nothing})
	c.args = fromOutside
	empty := c.head(b)
	var active, next, plans []time.Duration
	var peak, resident float64
	for round := 0; b.Loop(); round++ {
		c.git(b, "reset", "-q", "--hard", empty)
		check(b, os.RemoveAll(c.data))
		check(b, os.RemoveAll(c.logPath()))
		c.unread(b)
		c.up(b)
		c.converge(b, empty)
		c.registered(b, 0)
		active = append(active, c.activate(b, "all of it", everything("1")))
		c.converge(b, c.head(b))
		peak = max(peak, c.memory(b, "VmHWM"))
		time.Sleep(10 * time.Second)
		resident = max(resident, c.memory(b, "VmRSS"))
		for i := range nextCommits {
			next = append(next, c.activate(b, "one", oneOf(i, fmt.Sprint("1.", i))))
			time.Sleep(1100 * time.Millisecond) // what follows faster is taken for a flood
		}
		c.assertNothingWritten(b)
		plans = append(plans, c.planOfEverything(b))
		b.Logf("active %s, next %v, plan %s, peak %.0f MiB, then %.0f MiB, after all %.0f MiB", active[round], next[round*nextCommits:], plans[round], peak, resident, c.memory(b, "VmHWM"))
		c.stop(b)
	}
	b.ReportMetric(mean(active).Seconds(), "active-s")
	b.ReportMetric(peak, "peak-MiB")
	b.ReportMetric(resident, "resident-MiB")
	b.ReportMetric(milliseconds(median(next)), "next-ms")
	b.ReportMetric(mean(plans).Seconds(), "plan-s")
	b.ReportMetric(0, "ns/op")
}

// activate commits files and returns how long it takes from the move of the branch until the commit is Active.
func (c *cluster) activate(b *testing.B, message string, files map[string]string) time.Duration {
	b.Helper()
	commit := c.prepare(b, message, files)
	active := activation(b, c.api(b), commit)
	quiet()
	began := c.land(b, commit)
	return active().Sub(began)
}

// assertNothingWritten commits a file that is no manifest.
func (c *cluster) assertNothingWritten(b *testing.B) {
	b.Helper()
	before := c.versions(b)
	c.activate(b, "readme", map[string]string{"README.md": fmt.Sprint("# The applications\n", time.Now(), "\n")})
	if diff := cmp.Diff(before, c.versions(b)); diff != "" || len(before) < 8*applications {
		b.Errorf("a commit without a manifest wrote some of %d objects:\n%s", len(before), diff)
	}
}

// versions are the resourceVersions of all that is declared, and of where it was declared.
func (c *cluster) versions(b *testing.B) map[string]string {
	b.Helper()
	type named struct {
		Metadata struct{ Namespace, Name, ResourceVersion string }
	}
	found, a := map[string]string{}, c.api(b)
	for _, path := range []string{
		"/apis/apps/v1/deployments", "/apis/apps/v1/replicasets", "/api/v1/configmaps", "/api/v1/services", "/api/v1/secrets", "/api/v1/namespaces",
		"/apis/mainstay.dev/v1alpha1/sources",
	} {
		for _, o := range list[named](b, a, path) {
			found[path+" "+o.Metadata.Namespace+"/"+o.Metadata.Name] = o.Metadata.ResourceVersion
		}
	}
	return found
}

// planOfEverything plans a commit that changes a thousand Deployments.
func (c *cluster) planOfEverything(b *testing.B) time.Duration {
	b.Helper()
	commit := c.prepare(b, "all of it again", everything("2"))
	began := time.Now()
	out, err := c.run("sh", "-c", `cd "$1" && "$2" plan "$3" | tail -3; exit 0`, "sh", c.repo, c.bin, commit)
	took := time.Since(began)
	check(b, err)
	if out == "" {
		b.Error("plan says nothing")
	}
	b.Log(out)
	c.git(b, "reset", "-q", "--hard", "HEAD")
	return took
}

func everything(version string) map[string]string {
	files := map[string]string{}
	for i := range applications {
		maps.Copy(files, oneOf(i, version))
	}
	return files
}

func oneOf(i int, version string) map[string]string {
	name := filepath.Join("apps", fmt.Sprint(i%50), fmt.Sprintf("app-%d.yaml", i))
	return map[string]string{name: fmt.Sprintf(application, i, version)}
}

// application is a file of four objects.
const application = `apiVersion: apps/v1
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
`
