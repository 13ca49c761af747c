package e2e

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
)

// lives are steps of a Pod's life, in pairs: one of its making, one of its end.
var lives = [][2]step{
	{{"a sandbox is made", "POST", "name=ms_POD_step_", answered, 0}, {"a container is to be stopped", "POST", "/stop?", asked, 0}},
	{{"between sandbox and container", "POST", "name=ms_app_step_", asked, 0}, {"a container is stopped", "POST", "/stop?", answered, 0}},
	{{"a container is made", "POST", "name=ms_app_step_", answered, 0}, {"between stop and remove", "DELETE", "/containers/", asked, 0}},
	{{"a sandbox is started", "POST", "/start", answered, 0}, {"a container is removed", "DELETE", "/containers/", answered, 0}},
	{{"a container is to be started", "POST", "/start", asked, 1}, {"a sandbox is to be removed", "DELETE", "/containers/", asked, 1}},
	{{"a container is started", "POST", "/start", answered, 1}, {"a sandbox is removed", "DELETE", "/containers/", answered, 1}},
}

// stepPod is what is made and removed, on one node: with all that a Pod may leave behind.
func stepPod(node, image string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: step}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: %q
    command: [/bin/sleep, "600"]
    ports: [{containerPort: 80, hostPort: 8080}]
    volumeMounts: [{name: disk, mountPath: /disk, subPath: part}, {name: memory, mountPath: /memory}]
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]
`, node, image)
}

// killedAtEachStep kills a node's agent while it makes and removes a Pod. In the end there is what there should be, once.
func (f *fleet) killedAtEachStep(t *testing.T, m *member, probers []prober) {
	g := newGate(t, m.host.Socket())
	m.host.BusyboxImage(t, "sleep:1")
	slow := f.slowImage(t, m)
	m.stop(t)
	f.startAgent(t, m, "--docker-host", g.dockerHost())
	before := m.made(t)
	f.undisturbed(t, probers, func() {
		for _, life := range lives {
			for i, at := range life {
				reached := g.arm(at)
				f.commit(t, at.name, map[string]string{"step.yaml": []string{stepPod(m.name, "sleep:1"), ""}[i]})
				f.killedAt(t, m, reached, at.name, "--docker-host", g.dockerHost())
				f.stepIs(t, m, at.name, []int{1, 0}[i])
				if i == 0 && cmp.Equal(before, m.made(t)) {
					t.Fatal("a Pod shows no traces, so that none are left proves nothing")
				}
			}
			f.nothingLeft(t, m, before, life[1].name)
		}
		f.commit(t, "pull", map[string]string{"step.yaml": stepPod(m.name, slow.name)})
		f.killedAt(t, m, slow.asked, "an image is pulled")
		slow.give()
		f.stepIs(t, m, "an image is pulled", 1)
		f.commit(t, "the end", map[string]string{"step.yaml": ""})
		f.stepIs(t, m, "the end", 0)
		f.nothingLeft(t, m, before, "the end")
	})
}

// nothingLeft waits until a node's host has no more of Pods than it had before.
func (f *fleet) nothingLeft(t *testing.T, m *member, before traces, after string) {
	t.Helper()
	f.eventually(t, "nothing is left, killed when "+after, func() error {
		if diff := cmp.Diff(before, m.made(t)); diff != "" {
			return fmt.Errorf("-before +after:\n%s", diff)
		}
		return nil
	})
}

// killedAt kills the agent once a step is reached, and starts it again.
func (f *fleet) killedAt(t *testing.T, m *member, reached <-chan struct{}, what string, args ...string) {
	t.Helper()
	f.eventually(t, what, func() error {
		select {
		case <-reached:
			return nil
		default:
			return fmt.Errorf("not reached; the engine has %v", m.stepContainers(t))
		}
	})
	m.kill(t)
	f.startAgent(t, m, args...)
}

// stepIs waits until the engine has each container of the Pod n times, all of them running.
func (f *fleet) stepIs(t *testing.T, m *member, after string, n int) {
	t.Helper()
	want := map[string]int{}
	if n > 0 {
		want = map[string]int{"POD running": n, "app running": n}
		f.converge(t, f.head(t))
	}
	f.eventually(t, "killed when "+after, func() error {
		if diff := cmp.Diff(want, m.stepContainers(t)); diff != "" {
			return fmt.Errorf("containers of the Pod (-want +got):\n%s", diff)
		}
		return nil
	})
}

// stepContainers counts the containers of the Pod by name and state.
func (m *member) stepContainers(t testing.TB) map[string]int {
	t.Helper()
	var list []struct {
		State  string
		Labels map[string]string
	}
	m.host.API(t, "GET", "/containers/json?all=1&filters="+urlQuery([]byte(`{"label":["mainstay.dev/pod-name=step"]}`)), nil, &list)
	found := map[string]int{}
	for _, c := range list {
		found[c.Labels["mainstay.dev/container"]+" "+c.State]++
	}
	return found
}

// made is all that is made for a Pod besides its containers: links, routes, rules, files, and what is mounted.
func (m *member) made(t testing.TB) traces {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	found := traces{"files": settled(m.host.Run(t, "find", filepath.Join(m.data, "node", "pods"), "-maxdepth", "1"))}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, m.data) {
			found["mounts"] = append(found["mounts"], at)
		}
	}
	commands := []string{"ip -o link show", "ip -o -4 route show"}
	for line := range strings.Lines(m.host.Run(t, "nft", "list", "tables")) {
		if line = strings.TrimSpace(line); !strings.HasSuffix(line, "-services") { // its chains tell of all Services there ever were
			commands = append(commands, "nft list "+line)
		}
	}
	for _, command := range commands {
		words := strings.Fields(command)
		found[command] = settled(m.host.Run(t, words[0], words[1:]...))
	}
	return found
}

// slowImage is one whose registry gives it when it is told to.
type slowImage struct {
	name  string
	asked chan struct{} // closed at the first question for a part of it
	give  func()
}

// slowImage puts an image in a registry and nowhere else.
func (f *fleet) slowImage(t *testing.T, m *member) slowImage {
	t.Helper()
	listener, err := net.Listen("tcp", f.network.Gateway().String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	given := make(chan struct{})
	image := slowImage{name: listener.Addr().String() + "/slow:1", asked: make(chan struct{}), give: sync.OnceFunc(func() { close(given) })}
	noteAsked := sync.OnceFunc(func() { close(image.asked) })
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") {
			noteAsked()
			select {
			case <-given:
			case <-r.Context().Done():
				return
			}
		}
		images.ServeHTTP(w, r)
	})}}
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(image.give)
	m.host.BusyboxImage(t, image.name) // a new image each time, as it holds the time
	m.host.API(t, "POST", "/images/"+strings.TrimSuffix(image.name, ":1")+"/push?tag=1", map[string]string{}, nil)
	m.host.API(t, "DELETE", "/images/"+image.name, nil, nil)
	return image
}
