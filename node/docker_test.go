//go:build docker

package node

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/docker"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

const busybox = "busybox:1"

// onDocker starts an agent on a Docker Engine of the test's own. stop ends it and may be called repeatedly.
func onDocker(t testing.TB, h *testhost.Host, s *server) (stop func()) {
	t.Helper()
	rt, err := docker.New(docker.Config{
		Cluster: "c1", Host: h.DockerHost(), DataDir: filepath.Join(h.Dir, "mainstay"), NodeIP: netip.MustParseAddr("192.0.2.7"), Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Name: "n1", Cluster: "c1", NodeIP: netip.MustParseAddr("192.0.2.7"), DataDir: filepath.Join(h.Dir, "agent"),
			Client: link.NewVia(s, "http://server"), Runtime: rt, Log: quiet(),
		})
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent ended with %v", err)
		}
		rt.Close()
	}
	t.Cleanup(func() {
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		rt, err := docker.New(docker.Config{Cluster: "c1", Host: h.DockerHost(), DataDir: filepath.Join(h.Dir, "mainstay"), Log: quiet()})
		if err == nil {
			err = rt.Cleanup(ctx)
		}
		if err != nil {
			t.Errorf("cleanup: %v", err)
		}
	})
	return stop
}

// until waits for a condition of the server's and returns how long it took.
func (s *server) until(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	start, timeout := time.Now(), time.After(2*time.Minute)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return time.Since(start)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not %s after %s: %s", what, time.Since(start), s.overview())
		}
	}
}

func (s *server) overview() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, pod := range s.pods {
		lines = append(lines, pod.Name+": "+describe(&pod.Status)+fmt.Sprint(pod.Status.ContainerStatuses))
	}
	return strings.Join(lines, "\n")
}

func busyboxPod(name string) *corev1.Pod {
	return aPod(name, func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].Command = busybox, []string{"sleep", "3600"}
		p.Spec.TerminationGracePeriodSeconds = new(int64)
	})
}

// TestOnDocker walks one Pod through its life on a real engine: started, killed, paused, adopted by another agent, removed.
func TestOnDocker(t *testing.T) {
	h := testhost.Local(t)
	h.BusyboxImage(t, busybox)
	s := newServer()
	stop := onDocker(t, h, s)
	shows := func(want string) func() bool { return func() bool { return s.show("uid-web") == want } }
	s.bind(busyboxPod("web"))
	t.Log("ready after", s.until(t, "ready", shows("Running app#0:Ready")))
	id := strings.TrimPrefix(s.status("uid-web").ContainerStatuses[0].ContainerID, containerIDPrefix)
	h.API(t, "POST", "/containers/"+id+"/kill", nil, nil)
	if took := s.until(t, "restarted", shows("Running app#1:Ready")); took > 3*time.Second {
		t.Errorf("repaired after %s", took)
	}
	id = strings.TrimPrefix(s.status("uid-web").ContainerStatuses[0].ContainerID, containerIDPrefix)
	stop()
	stop = onDocker(t, h, s)
	s.until(t, "registered again", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.registrations == 2 })
	if got := strings.TrimPrefix(s.status("uid-web").ContainerStatuses[0].ContainerID, containerIDPrefix); got != id {
		t.Errorf("container %s became %s when the agent was restarted", id, got)
	}
	s.delete("uid-web", 1)
	t.Log("removed after", s.until(t, "removed", func() bool { return !s.has("uid-web") }))
	stop()
}

// BenchmarkFiftyPodsOnDocker measures how long 50 Pods take from assignment until all are reported Ready.
func BenchmarkFiftyPodsOnDocker(b *testing.B) {
	h := testhost.Local(b)
	h.BusyboxImage(b, busybox)
	s := newServer()
	onDocker(b, h, s)
	s.until(b, "registered", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.node != nil })
	for b.Loop() {
		var pods []*corev1.Pod
		for i := range 50 {
			pods = append(pods, busyboxPod(fmt.Sprintf("p%d", i)))
		}
		s.bind(pods...)
		s.until(b, "ready", func() bool {
			return !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return s.show(p.UID) != "Running app#0:Ready" })
		})
		b.StopTimer()
		for _, p := range pods {
			s.delete(p.UID, 1)
		}
		s.until(b, "removed", func() bool { return !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return s.has(p.UID) }) })
		b.StartTimer()
	}
}
