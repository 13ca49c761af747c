package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// inspection is what others see of a container: if it is equal before and after, nobody touched it.
func (f *fixture) inspection(t *testing.T, id string) string {
	t.Helper()
	var seen struct {
		Id, Name string
		State    any
		Config   any
	}
	f.host.API(t, "GET", "/containers/"+id+"/json", nil, &seen)
	out, err := json.Marshal(seen)
	check(t, err)
	return string(out)
}

// TestEngineRestartsTouchNoContainer asserts P5: with live-restore the engine may stop, crash or hang.
func TestEngineRestartsTouchNoContainer(t *testing.T) {
	f := newFixture(t)
	p := pod("steady", "sleep", "600")
	f.run(t, p)
	want := f.look(t, f.Runtime, p)
	f.host.StopEngine(t)
	if _, err := f.Pods(t.Context()); err == nil {
		t.Error("an engine that is not there listed Pods")
	}
	f.host.StartEngine(t)
	f.host.KillEngine(t)
	f.host.StartEngine(t)
	check(t, f.start(t, p, 0))
	for _, r := range []*Runtime{f.Runtime, f.reopen(t)} {
		if diff := cmp.Diff(want, f.look(t, r, p), cmp.Comparer(func(a, b runtime.Sandbox) bool { return a == b })); diff != "" {
			t.Errorf("after two restarts (-want +got):\n%s", diff)
		}
	}
}

func TestHungEngineHangsNobody(t *testing.T) {
	f := newFixture(t)
	p := pod("hung", "sleep", "600")
	c := f.run(t, p)
	f.host.FreezeEngine(t)
	defer f.host.ThawEngine(t)
	before := time.Now()
	if _, err := f.Pods(t.Context()); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("error = %v, want one that says that the engine did not answer", err)
	}
	if took := time.Since(before); took > readTimeout+3*time.Second {
		t.Errorf("it took %s to give up", took)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("probe timed out"))
	defer cancel()
	if _, _, err := f.Exec(ctx, c.ID, []string{"true"}); err == nil || !strings.Contains(err.Error(), "probe timed out") {
		t.Errorf("exec: %v", err)
	}
}

// TestOthersContainersStay asserts P12 for containers.
func TestOthersContainersStay(t *testing.T) {
	f := newFixture(t)
	p := pod("mine", "sleep", "600")
	create := func(name string, labels map[string]string) string {
		id, err := f.startBare(t.Context(), name, &container.Config{Image: busybox, Cmd: []string{"sleep", "600"}, Labels: labels}, &container.HostConfig{})
		check(t, err)
		return id
	}
	foreign, err := f.labels(p, "main", 1)
	check(t, err)
	foreign[labelCluster] = "other" // in all else as our own
	others := map[string]string{
		"without labels":    create("bystander", nil),
		"with our name":     create(containerName(p, "main", 0), nil),
		"another cluster's": create("neighbour", foreign),
		"half our labels":   create("pretender", map[string]string{labelCluster: cluster}),
		"of a committed image": create("copy", map[string]string{
			labelCluster: cluster, labelUID: string(p.UID), labelContainer: "main", labelAttempt: "2", labelPod: p.Name, labelNamespace: p.Namespace,
			labelCreated: time.Now().Add(-time.Minute).UTC().Format(time.RFC3339Nano),
		}),
	}
	before := map[string]string{}
	for what, id := range others {
		before[what] = f.inspection(t, id)
	}

	if err := f.start(t, p, 0); err == nil || !strings.Contains(err.Error(), "not Mainstay's") {
		t.Errorf("starting a container whose name is taken: %v", err)
	}
	check(t, f.start(t, p, 1))
	if found := f.look(t, f.Runtime, p); len(found.Containers) != 1 {
		t.Errorf("containers of the Pod: %+v", found.Containers)
	}
	check(t, f.RemovePod(t.Context(), p.UID))
	check(t, f.Cleanup(t.Context()))

	for what, id := range others {
		if after := f.inspection(t, id); after != before[what] {
			t.Errorf("a container %s was touched:\n%s\n%s", what, before[what], after)
		}
	}
}

func TestWhatACrashLeftIsGoneOnWith(t *testing.T) {
	f := newFixture(t)
	p := pod("crash", "sleep", "600")
	config, host, err := f.sandboxConfig(p)
	check(t, err)
	check(t, f.loadPause(t.Context()))
	created, _, err := f.create(t.Context(), containerName(p, sandboxName, 0), config, host)
	check(t, err)

	t.Run("a sandbox that was created only", func(t *testing.T) {
		s, err := f.reopen(t).EnsureSandbox(t.Context(), p)
		if !errors.Is(err, runtime.ErrNotConfigured) {
			t.Errorf("before Configure: %+v, %v", s, err)
		}
		if s, err = f.EnsureSandbox(t.Context(), p); err != nil || s.ID == "" || !s.IP.IsValid() {
			t.Errorf("sandbox %+v, %v; created was %s", s, err, created)
		}
	})
	t.Run("a container that was created only", func(t *testing.T) {
		s, err := f.EnsureSandbox(t.Context(), p)
		check(t, err)
		cfg := runtime.ContainerConfig{Pod: p, Container: &p.Spec.Containers[0], Command: p.Spec.Containers[0].Command}
		mounts, err := f.prepareMounts(cfg)
		check(t, err)
		config, host, err := f.containerConfig(s, cfg, mounts)
		check(t, err)
		id, _, err := f.create(t.Context(), containerName(p, "main", 0), config, host)
		check(t, err)
		if c := f.container(t, p); c.ID != id || c.State != runtime.Created {
			t.Errorf("listed as %+v", c)
		}
		check(t, f.start(t, p, 0))
		if c := f.container(t, p); c.ID != id || c.State != runtime.Running {
			t.Errorf("started as %+v, want %s", c, id)
		}
	})
	t.Run("a container that was renamed", func(t *testing.T) {
		want := f.container(t, p)
		f.host.API(t, "POST", "/containers/"+want.ID+"/rename?name=something", nil, nil)
		if got := f.container(t, p); got.ID != want.ID || got.Name != "main" {
			t.Errorf("listed as %+v", got)
		}
	})
	t.Run("a sandbox that was renamed", func(t *testing.T) {
		want := f.look(t, f.Runtime, p).Sandbox
		f.host.API(t, "POST", "/containers/"+want.ID+"/rename?name=other", nil, nil)
		if got, err := f.EnsureSandbox(t.Context(), p); err != nil || got != want {
			t.Errorf("sandbox %+v (%v), want %+v", got, err, want)
		}
	})
	t.Run("a sandbox that was removed", func(t *testing.T) {
		old := f.look(t, f.Runtime, p)
		f.host.API(t, "DELETE", "/containers/"+old.Sandbox.ID+"?force=1", nil, nil)
		lost := f.look(t, f.Runtime, p)
		if lost.Sandbox.ID != "" || lost.Pod.Name != p.Name || len(lost.Pod.Spec.Containers) != 1 {
			t.Errorf("the Pod is listed as %+v", lost)
		}
		s, err := f.EnsureSandbox(t.Context(), p)
		check(t, err)
		if now := f.look(t, f.Runtime, p); now.Sandbox != s || now.Containers[0].State != runtime.Exited {
			t.Errorf("after EnsureSandbox: %+v", now)
		}
	})
	t.Run("a pruned sandbox image", func(t *testing.T) {
		check(t, f.RemovePod(t.Context(), p.UID))
		f.host.API(t, "DELETE", "/images/"+f.pause.name+"?force=1", nil, nil)
		_, err := f.EnsureSandbox(t.Context(), p)
		check(t, err)
	})
}

func TestPulls(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/team/app:1"
	push := func(local string) {
		f.host.BusyboxImage(t, local) // a new image each time, as it holds the time
		check(t, f.cli.ImageTag(t.Context(), local, ref))
		messages, err := f.cli.ImagePush(t.Context(), ref, image.PushOptions{RegistryAuth: "e30="}) // {}: nobody
		check(t, err)
		check(t, errors.Join(streamError(messages, func() {}), messages.Close()))
		_, err = f.cli.ImageRemove(t.Context(), ref, image.RemoveOptions{})
		check(t, err)
	}

	var failed *runtime.ImageError
	if _, err := f.EnsureImage(t.Context(), ref, corev1.PullIfNotPresent); !errors.As(err, &failed) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("an image the registry does not have: %v", err)
	}
	push("one:1")
	first, err := f.EnsureImage(t.Context(), ref, corev1.PullIfNotPresent)
	check(t, err)
	if same, err := f.EnsureImage(t.Context(), ref, corev1.PullIfNotPresent); err != nil || same != first {
		t.Errorf("IfNotPresent gave %s (%v), want %s", same, err, first)
	}
	check(t, f.cli.ImageTag(t.Context(), busybox, ref)) // stale by now
	second, err := f.EnsureImage(t.Context(), ref, corev1.PullAlways)
	if err != nil || second != first {
		t.Errorf("Always gave %s (%v), want what the registry has, %s", second, err, first)
	}
	server.Close()
	if _, err := f.EnsureImage(t.Context(), ref, corev1.PullAlways); !errors.As(err, &failed) {
		t.Errorf("Always without a registry: %v", err)
	}
}

func TestHungCommandsAreKilled(t *testing.T) {
	f := newFixture(t)
	c := f.run(t, pod("probe", "sleep", "600"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := f.Exec(ctx, c.ID, []string{"sleep", "599"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want the deadline", err)
	}
	_, out, err := f.Exec(t.Context(), c.ID, []string{"sh", "-c", "ps | grep -c 'sleep [5]99'"})
	if err != nil || string(out) != "0\n" {
		t.Errorf("processes left: %q (%v)", out, err)
	}
	_, out, err = f.Exec(t.Context(), c.ID, []string{"sh", "-c", "yes | head -c 100000"})
	if err != nil || len(out) != maxOutput {
		t.Errorf("%d bytes of output are kept (%v), want %d", len(out), err, maxOutput)
	}
}

func TestIdleLooksAskForNothingTwice(t *testing.T) {
	f := newFixture(t)
	f.run(t, pod("idle", "sleep", "600"))
	for range f.Events(t.Context()) {
		f.look(t, f.Runtime, pod("idle"))
		before := f.inspections(t)
		f.look(t, f.Runtime, pod("idle"))
		if after := f.inspections(t); after != before {
			t.Errorf("the second look read details again: %s, before %s", after, before)
		}
		break
	}
}

// inspections tells when each container's details were read last.
func (f *fixture) inspections(t *testing.T) string {
	t.Helper()
	f.known.mu.Lock()
	defer f.known.mu.Unlock()
	out := ""
	for _, id := range slices.Sorted(maps.Keys(f.known.entries)) {
		out += fmt.Sprintln(id, f.known.entries[id].read)
	}
	return out
}

func TestRemovingAPodRemovesItsFiles(t *testing.T) {
	f := newFixture(t)
	p := pod("files", "sleep", "600")
	f.run(t, p)
	dir, err := f.podDir(string(p.UID))
	check(t, err)
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	check(t, f.RemovePod(t.Context(), p.UID))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	if ports, err := f.net().Ports(); err != nil || len(ports) != 0 {
		t.Errorf("ports %v, %v", ports, err)
	}
}
