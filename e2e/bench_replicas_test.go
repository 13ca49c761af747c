package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/testhost"
)

const (
	replicas = 50
	parallel = 8 // how many pairs a user's own program starts at a time
)

// BenchmarkFiftyReplicas starts 50 replicas of an image that is present, without probes, in three ways, on one engine, taking turns
// at who goes first; Mainstay does not run while the others do. mainstay-s is from the commit until all Pods are Ready, pairs-s
// is a sandbox without a network and a container in it, straight through the Docker API. swarm-s is from the creation of a Swarm
// service on an overlay network, where replicas reach each other as Pods do, until all its tasks run; swarm-bridge-s is one
// without a network of its own.
func BenchmarkFiftyReplicas(b *testing.B) {
	f := newRace(b)
	contenders := []struct {
		name string
		run  func(*testing.B) time.Duration
	}{{"pairs", f.pairs}, {"mainstay", f.mainstay}, {"swarm", f.overlay}, {"swarm-bridge", f.bridge}}
	took := map[string][]time.Duration{}
	for round := 0; b.Loop(); round++ {
		for i := range contenders {
			who := contenders[(round+i)%len(contenders)]
			quiet()
			d := who.run(b)
			b.Logf("round %d: %-12s %.2f s", round, who.name, d.Seconds())
			took[who.name] = append(took[who.name], d)
		}
	}
	for _, who := range contenders {
		b.ReportMetric(mean(took[who.name]).Seconds(), who.name+"-s")
	}
	b.ReportMetric(float64(mean(took["mainstay"]))/float64(mean(took["pairs"])), "of-pairs")
	b.ReportMetric(float64(mean(took["mainstay"]))/float64(mean(took["swarm"])), "of-swarm")
	b.ReportMetric(float64(mean(took["mainstay"]))/float64(mean(took["swarm-bridge"])), "of-swarm-bridge")
	b.ReportMetric(0, "ns/op")
}

// race is the track: one engine, and Mainstay with a repository in which nothing runs yet.
type race struct {
	*cluster
	engine engine
	pause  string // image of the sandboxes
}

const nothing = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nothing}\n"

func newRace(b *testing.B) *race {
	f := &race{cluster: newCluster(b, map[string]string{"nothing.yaml": nothing})}
	f.args = fromOutside
	f.host.BusyboxImage(b, "busybox:1")
	f.host.StopEngine(b)
	f.host.StartEngine(b, "--live-restore=false") // Swarm refuses an engine with it
	f.engine = newEngine(b, f.host)
	f.mainstay(b) // loads the image of the sandboxes, and warms the page cache for everybody
	f.pause = f.pauseImage(b)
	return f
}

// rise starts Mainstay and waits until it is at rest.
func (f *race) rise(b *testing.B) {
	before := f.registrations(b)
	f.up(b)
	f.registered(b, before)
}

func (f *race) pauseImage(b *testing.B) string {
	var images []struct{ RepoTags []string }
	check(b, f.engine.call(http.MethodGet, "/images/json", nil, &images))
	for _, image := range images {
		for _, tag := range image.RepoTags {
			if strings.Contains(tag, "pause") {
				return tag
			}
		}
	}
	b.Fatalf("Mainstay left no pause image: %v", images)
	return ""
}

func (f *race) mainstay(b *testing.B) time.Duration {
	f.rise(b)
	type deployment struct {
		Metadata struct{ Name string }
		Status   struct{ ReadyReplicas int }
	}
	manifest := strings.NewReplacer("%r", fmt.Sprint(replicas)).Replace(fiftySleepers)
	next := f.prepare(b, "fifty", map[string]string{"fifty.yaml": manifest})
	ready := watch(b, f.api(b), "/apis/apps/v1/namespaces/default/deployments", func(d deployment) bool {
		return d.Metadata.Name == "fifty" && d.Status.ReadyReplicas == replicas
	})
	began := f.land(b, next)
	took := ready().Sub(began)
	f.land(b, f.prepare(b, "none", map[string]string{"fifty.yaml": ""}))
	f.engine.awaitEmpty(b)
	f.stop(b)
	return took
}

const fiftySleepers = `apiVersion: apps/v1
kind: Deployment
metadata: {name: fifty}
spec:
  replicas: %r
  selector:
    matchLabels: {app: fifty}
  template:
    metadata:
      labels: {app: fifty}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: app, image: "busybox:1", command: [sleep, "600"]}
`

// pairs starts what 50 Pods are made of, with the engine's own defaults.
func (f *race) pairs(b *testing.B) time.Duration {
	began := time.Now()
	var all errgroup.Group
	all.SetLimit(parallel)
	for range replicas {
		all.Go(f.pair)
	}
	check(b, all.Wait())
	took := time.Since(began)
	f.engine.removeAll(b)
	return took
}

func (f *race) pair() error {
	sandbox, err := f.engine.start(map[string]any{"Image": f.pause, "HostConfig": map[string]any{"NetworkMode": "none"}})
	if err != nil {
		return err
	}
	_, err = f.engine.start(map[string]any{
		"Image": "busybox:1", "Cmd": []string{"sleep", "600"}, "HostConfig": map[string]any{"NetworkMode": "container:" + sandbox},
	})
	return err
}

func (f *race) bridge(b *testing.B) time.Duration { return f.swarm(b) }

func (f *race) overlay(b *testing.B) time.Duration { return f.swarm(b, "app") }

// swarm runs the image by its id: by name, every task would first ask a registry.
func (f *race) swarm(b *testing.B, networks ...string) time.Duration {
	var image struct{ ID string }
	check(b, f.engine.call(http.MethodGet, "/images/busybox:1/json", nil, &image))
	address := f.host.IP.String()
	check(b, f.engine.call(http.MethodPost, "/swarm/init", map[string]any{"ListenAddr": address + ":2377", "AdvertiseAddr": address}, nil))
	targets := []map[string]any{}
	for _, name := range networks {
		check(b, f.engine.call(http.MethodPost, "/networks/create", map[string]any{"Name": name, "Driver": "overlay"}, nil))
		targets = append(targets, map[string]any{"Target": name})
	}
	container := map[string]any{"Image": image.ID, "Command": []string{"sleep", "600"}, "StopGracePeriod": time.Second}
	service := map[string]any{
		"Name": "fifty", "Mode": map[string]any{"Replicated": map[string]any{"Replicas": replicas}},
		"TaskTemplate": map[string]any{"ContainerSpec": container, "Networks": targets},
	}
	began := time.Now()
	check(b, f.engine.call(http.MethodPost, "/services/create", service, nil))
	took := f.awaitTasks(b).Sub(began)
	check(b, f.engine.call(http.MethodDelete, "/services/fifty", nil, nil))
	f.engine.awaitEmpty(b)
	check(b, f.engine.call(http.MethodPost, "/swarm/leave?force=true", nil, nil))
	return took
}

// awaitTasks looks every 50 ms: Swarm has no watch. It returns when it saw all of them run.
func (f *race) awaitTasks(b *testing.B) time.Time {
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		var tasks []struct{ Status struct{ State string } }
		check(b, f.engine.call(http.MethodGet, "/tasks", nil, &tasks))
		now, running := time.Now(), 0
		for _, t := range tasks {
			if t.Status.State == "running" {
				running++
			}
		}
		if running == replicas {
			return now
		}
		if now.After(deadline) {
			b.Fatalf("Swarm runs %d of %d tasks: %+v", running, replicas, tasks)
		}
	}
}

// engine is the Docker API over connections that are kept, as a user's program would have it.
type engine struct{ client http.Client }

func newEngine(b *testing.B, h *testhost.Host) engine {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Socket())
	}
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: parallel}
	b.Cleanup(transport.CloseIdleConnections)
	return engine{http.Client{Transport: transport}}
}

func (e *engine) call(method, path string, body, answer any) error {
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, "http://engine"+path, payload)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, content)
	case answer == nil:
		return nil
	}
	return json.Unmarshal(content, answer)
}

func (e *engine) start(config map[string]any) (string, error) {
	var made struct {
		ID string `json:"Id"`
	}
	if err := e.call(http.MethodPost, "/containers/create", config, &made); err != nil {
		return "", err
	}
	return made.ID, e.call(http.MethodPost, "/containers/"+made.ID+"/start", nil, nil)
}

type listed struct {
	ID string `json:"Id"`
}

func (e *engine) all(b *testing.B) (found []listed) {
	check(b, e.call(http.MethodGet, "/containers/json?all=1", nil, &found))
	return found
}

func (e *engine) removeAll(b *testing.B) {
	var all errgroup.Group
	all.SetLimit(parallel)
	for _, c := range e.all(b) {
		all.Go(func() error { return e.call(http.MethodDelete, "/containers/"+c.ID+"?force=1", nil, nil) })
	}
	check(b, all.Wait())
}

func (e *engine) awaitEmpty(b *testing.B) {
	for deadline := time.Now().Add(2 * patience); len(e.all(b)) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d containers are still there", len(e.all(b)))
		}
	}
}
