package load

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// manyFiles is a tree like those of real clusters: files by directory of the application, some with several documents.
func manyFiles(n int, text func(i int) string) map[string]string {
	files := make(map[string]string, n)
	for i := range n {
		files[fmt.Sprintf("apps/%03d/app-%d.yaml", i%100, i)] = text(i)
	}
	return files
}

func numbered(text string, i int) string {
	return strings.NewReplacer("name: web\n  labels", fmt.Sprintf("name: web-%d\n  labels", i), "app: web", fmt.Sprintf("app: web-%d", i)).Replace(text)
}

// fourObjects is a Deployment, a Service, a ConfigMap and a Secret.
func fourObjects(i int) string {
	return numbered(deploymentYAML, i) + fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: web-%[1]d}
spec:
  selector: {app: web-%[1]d}
  ports:
  - port: 80
    targetPort: 8080
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-%[1]d}
data:
  greeting: hello
  motd: |
    a few lines
    of text
---
apiVersion: v1
kind: Secret
metadata: {name: web-%[1]d}
stringData: {token: t0k3n-%[1]d}
`, i)
}

func loadCommit(b *testing.B, l *Loader, r *repo, commit plumbing.Hash, want int) {
	b.Helper()
	tree, err := Git(r.store, commit, "")
	if err != nil {
		b.Fatal(err)
	}
	set, problems, err := l.Load(b.Context(), tree)
	if err != nil || len(problems) > 0 || len(set.Objects) != want {
		b.Fatalf("%d objects, %v, %v", len(set.Objects), problems, err)
	}
}

func BenchmarkLoad(b *testing.B) {
	for name, tc := range map[string]struct {
		files   map[string]string
		objects int
	}{
		"2000 files of a Deployment":        {manyFiles(2000, func(i int) string { return numbered(deploymentYAML, i) }), 2000},
		"1000 files of four objects (4000)": {manyFiles(1000, fourObjects), 4000},
	} {
		r := newRepo(b)
		first := r.commit(r.files(tc.files))
		b.Run(name+"/cold", func(b *testing.B) {
			for b.Loop() {
				loadCommit(b, new(Loader), r, first, tc.objects)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*tc.objects), "µs/object")
		})
		b.Run(name+"/one file changed", func(b *testing.B) {
			var l Loader
			loadCommit(b, &l, r, first, tc.objects)
			n := 0
			for b.Loop() {
				b.StopTimer()
				n++
				tc.files["apps/000/app-0.yaml"] += fmt.Sprintf("# %d\n", n)
				next := r.commit(r.files(tc.files))
				b.StartTimer()
				loadCommit(b, &l, r, next, tc.objects)
			}
		})
	}
}

// BenchmarkMemory reports what a Loader keeps of a tree.
func BenchmarkMemory(b *testing.B) {
	r := newRepo(b)
	commit := r.commit(r.files(manyFiles(1000, fourObjects)))
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var l Loader
		loadCommit(b, &l, r, commit, 4000)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB-kept")
		runtime.KeepAlive(&l)
	}
}
