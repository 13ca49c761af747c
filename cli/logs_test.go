package cli

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/api"
)

// twoPods are web-1, with two containers and one for its start, and web-2; each container has written two lines.
func twoPods(t *testing.T) *testCluster {
	t.Helper()
	first, second, n := readyPod("default", "web-1"), readyPod("default", "web-2"), node("n1")
	first.Spec.Containers = append(first.Spec.Containers, corev1.Container{Name: "sidecar"})
	first.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	for _, pod := range []*corev1.Pod{first, second} {
		pod.Labels = map[string]string{"app": "web"}
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers[len(pod.Status.ContainerStatuses):]) {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
		}
	}
	n.Annotations = map[string]string{api.AddressAnnotation: "n1:7444"}
	c := startCluster(t, first, second, n)
	c.logLines = "one\ntwo\n"
	return c
}

func TestLogsOfSeveralContainers(t *testing.T) {
	c := twoPods(t)
	for name, tc := range map[string]struct {
		args string
		want []string // whose lines, in order
	}{
		"all of a Pod":        {"web-1 --all-containers", []string{"web-1/web", "web-1/sidecar", "web-1/init"}},
		"each Pod's first":    {"-l app=web", []string{"web-1/web", "web-2/web"}},
		"all that match":      {"-l app=web --all-containers", []string{"web-1/web", "web-1/sidecar", "web-1/init", "web-2/web"}},
		"only one that is it": {"web-2 --all-containers", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			var want strings.Builder
			for _, from := range tc.want {
				for _, line := range []string{"one\n", "two\n"} {
					want.WriteString(strings.TrimPrefix(from+": ", ": ") + line)
				}
			}
			got := c.run(t, append([]string{"logs"}, strings.Fields(tc.args)...)...)
			if diff := cmp.Diff(want.String(), got.out); got.code != 0 || diff != "" {
				t.Errorf("code %d, stderr %q\n%s", got.code, got.err, diff)
			}
		})
	}
}

func TestLogsFollowedAtOnceKeepTheirLinesWhole(t *testing.T) {
	c := twoPods(t)
	c.logLines = "one\ntwo"
	got := c.run(t, "logs", "-l", "app=web", "--all-containers", "-f")
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	slices.Sort(lines)
	want := []string{"web-1/init: one", "web-1/init: two", "web-1/sidecar: one", "web-1/sidecar: two", "web-1/web: one", "web-1/web: two", "web-2/web: one", "web-2/web: two"}
	if diff := cmp.Diff(want, lines); got.code != 0 || diff != "" {
		t.Errorf("code %d, stderr %q\n%s", got.code, got.err, diff)
	}
}

func TestLogsRefusesWhatCannotBeMeant(t *testing.T) {
	c := twoPods(t)
	for args, want := range map[string]struct {
		code int
		err  string
	}{
		"web-1 -l app=web":              {2, "give either a Pod or --selector"},
		"web-1 -c web --all-containers": {2, "give either --container or --all-containers"},
		"-l app=":                       {1, "no Pod in namespace default matches app="},
		"-l app=db":                     {1, "no Pod in namespace default matches app=db"},
		"-l a=b=c":                      {2, "--selector \"a=b=c\""},
		"-l app=web -c sidecar":         {1, "pod \"web-2\" has no container \"sidecar\""},
	} {
		got := c.run(t, append([]string{"logs"}, strings.Fields(args)...)...)
		if got.code != want.code || got.out != "" || !strings.Contains(got.err, want.err) {
			t.Errorf("logs %s: code %d, stdout %q, stderr %q", args, got.code, got.out, got.err)
		}
	}
}

// However the bytes of a log are cut, its lines come out whole, and one without an end does not fill memory.
func TestLineWriter(t *testing.T) {
	var b strings.Builder
	l := &lineWriter{prefix: "> ", shared: &sync.Mutex{}, w: &b}
	for _, piece := range []string{"a", "b\nc", "\n\nd\ne", "f", strings.Repeat("x", maxLine)} {
		if n, err := l.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(piece), err)
		}
	}
	if want := "> ab\n> c\n> \n> d\n> ef" + strings.Repeat("x", maxLine) + "\n"; b.String() != want || len(l.rest) > 0 {
		t.Errorf("got %.40q… of %d bytes, %d kept", b.String(), b.Len(), len(l.rest))
	}
}
