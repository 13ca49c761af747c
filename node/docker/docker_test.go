package docker

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

const (
	busybox = "busybox:1"
	cluster = "test-cluster"
)

// fixture is a runtime on an engine of its own.
type fixture struct {
	*Runtime
	host *testhost.Host
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{host: testhost.Local(t)}
	f.host.BusyboxImage(t, busybox)
	f.Runtime = f.reopen(t)
	check(t, f.Configure(t.Context(), runtime.Network{PodCIDR: netip.MustParsePrefix("10.244.3.0/24")}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.Cleanup(ctx); err != nil {
			t.Errorf("cleanup: %v", err)
		}
	})
	return f
}

// reopen returns another runtime for the same engine, which knows nothing.
func (f *fixture) reopen(t testing.TB) *Runtime {
	t.Helper()
	r, err := New(Config{
		Cluster: cluster, Host: f.host.DockerHost(), DataDir: filepath.Join(f.host.Dir, "mainstay"), NodeIP: netip.MustParseAddr("192.0.2.7"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDockerIsARuntime(t *testing.T) {
	f := newFixture(t)
	runtimetest.Run(t, runtimetest.Subject{
		Runtime: f.Runtime, Image: busybox, Timeout: 40 * time.Second, PodCIDR: netip.MustParsePrefix("10.244.3.0/24"),
		Reopen: func() runtime.Runtime { return f.reopen(t) },
		Kill:   func(id string) { f.host.API(t, "POST", "/containers/"+id+"/kill", nil, nil) },
		Pause:  func(id string) { f.host.API(t, "POST", "/containers/"+id+"/pause", nil, nil) },
		Remove: func(id string) { f.host.API(t, "DELETE", "/containers/"+id+"?force=1", nil, nil) },
		EndPod: func(id string) { f.host.API(t, "POST", "/containers/"+id+"/kill", nil, nil) },
	})
}

// pod returns a Pod of one container that runs command.
func pod(name string, command ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: busybox, Command: command}}},
	}
}

// run starts the Pod's first container and returns it as listed.
func (f *fixture) run(t testing.TB, p *corev1.Pod) runtime.Container {
	t.Helper()
	check(t, f.start(t, p, 0))
	return f.container(t, p)
}

func (f *fixture) start(t testing.TB, p *corev1.Pod, attempt int) error {
	t.Helper()
	s, err := f.EnsureSandbox(t.Context(), p)
	check(t, err)
	c := &p.Spec.Containers[0]
	id, err := f.EnsureImage(t.Context(), c.Image, corev1.PullIfNotPresent)
	check(t, err)
	return f.StartContainer(t.Context(), s, runtime.ContainerConfig{
		Pod: p, Container: c, Attempt: attempt, ImageID: id, Command: c.Command, Args: c.Args, Env: []string{"NAME=value"},
	})
}

func (f *fixture) container(t testing.TB, p *corev1.Pod) runtime.Container {
	t.Helper()
	found := f.look(t, f.Runtime, p)
	if len(found.Containers) == 0 {
		t.Fatalf("pod %s has no containers", p.Name)
	}
	return found.Containers[len(found.Containers)-1]
}

func (f *fixture) look(t testing.TB, r *Runtime, p *corev1.Pod) runtime.Pod {
	t.Helper()
	pods, err := r.Pods(t.Context())
	check(t, err)
	for _, found := range pods {
		if found.Pod.UID == p.UID {
			return found
		}
	}
	return runtime.Pod{}
}
