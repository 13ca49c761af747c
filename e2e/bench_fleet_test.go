package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// flips is how many Pods of a fleet cease to be Ready in a second; each is Ready again a second later.
	flips       = 100
	underChange = 30 * time.Second
	// fleetPatience bounds the wait for all of a fleet to join, or for all of its Pods.
	fleetPatience = 5 * time.Minute
)

// wide is a cluster with addresses for the Pods of 32 768 nodes.
const wide = "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: scale}\nspec: {podCIDR: 10.128.0.0/9}\n"

// crowd is `mainstay server` and a fleet of agents without engines that have joined it, each of the two one process of this machine.
type crowd struct {
	*cluster // without a host
	agents   *exec.Cmd
	api      *api
}

// newCrowd returns once all nodes have joined. changes is how often a second one of their Pods is to change.
func newCrowd(b *testing.B, nodes, changes int) *crowd {
	b.Helper()
	dir := b.TempDir()
	c := &crowd{cluster: &cluster{repo: filepath.Join(dir, "repo"), data: filepath.Join(dir, "data"), bin: binary(b, "github.com/mainstay-cluster/mainstay/cmd/mainstay")}}
	c.begin(b, map[string]string{"mainstay.yaml": wide})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(b, err)
	address := listener.Addr().String()
	check(b, listener.Close())
	c.proc = background(b, filepath.Join(dir, "server.log"), c.bin, "server", "--repo", c.repo, "--data-dir", c.data, "--listen", address)
	wait(b, "the server answers", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		_, err = os.Stat(filepath.Join(c.data, "kubeconfig"))
		return err == nil
	})
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.data, "kubeconfig"))
	check(b, err)
	client, err := rest.HTTPClientFor(config)
	check(b, err)
	b.Cleanup(client.CloseIdleConnections)
	c.api = &api{client, config.Host}
	load := binary(b, "github.com/mainstay-cluster/mainstay/e2e/fleetload")
	c.agents = background(b, filepath.Join(dir, "agents.log"), load, address, c.data, "scale", strconv.Itoa(nodes), strconv.Itoa(changes))
	wait(b, "all nodes have joined", func() bool { return len(list[struct{}](b, c.api, "/api/v1/nodes")) == nodes })
	return c
}

// background starts a program that is ended with the benchmark, or before by its process.
func background(b *testing.B, log, program string, args ...string) *exec.Cmd {
	b.Helper()
	out, err := os.Create(log)
	check(b, err)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	check(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
		out.Close()
		if said, _ := os.ReadFile(log); b.Failed() {
			b.Logf("%s said:\n%s", filepath.Base(program), tail(said, 4<<10))
		}
	})
	return cmd
}

func wait(b *testing.B, what string, done func() bool) {
	b.Helper()
	for deadline := time.Now().Add(fleetPatience); !done(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			b.Fatalf("not within %s: %s", fleetPatience, what)
		}
	}
}

// readyReplicas is what Deployments say of themselves.
type readyReplicas struct{ Status struct{ ReadyReplicas int } }

const deployments = "/apis/apps/v1/deployments"

// BenchmarkThousandAgents is a server to which 2 000 agents report, with 20 000 Pods of 200 Deployments. For half a minute a
// hundred of them cease to be Ready in a second, and are Ready again a second later. %core and resident-MiB are the server's then;
// seen-p99-ms is from the change of a Pod at its agent until a watch of all Pods shows it.
func BenchmarkThousandAgents(b *testing.B) {
	const nodes, apps, each = 2000, 200, 100
	var seen []time.Duration
	var used, passed time.Duration
	var resident float64
	for b.Loop() {
		c := newCrowd(b, nodes, flips)
		files := map[string]string{}
		for i := range apps {
			files[fmt.Sprintf("app-%d.yaml", i)] = deployment(fmt.Sprintf("app-%d", i), "hello:1.0", each)
		}
		c.commit(b, "apps", files)
		wait(b, "all Pods but those that change are Ready", func() bool {
			ready := 0
			for _, d := range list[readyReplicas](b, c.api, deployments) {
				ready += d.Status.ReadyReplicas
			}
			return ready >= apps*each-3*flips
		})
		time.Sleep(settle)
		took := c.latencies(b)
		began, before := time.Now(), c.processor(b)
		time.Sleep(underChange)
		used += c.processor(b) - before
		passed += time.Since(began)
		resident = max(resident, c.memory(b, "VmRSS"))
		seen = append(seen, took()...)
		c.end(b)
	}
	slices.Sort(seen)
	b.ReportMetric(milliseconds(median(seen)), "seen-p50-ms")
	b.ReportMetric(milliseconds(seen[len(seen)*99/100]), "seen-p99-ms")
	b.ReportMetric(float64(len(seen))/(passed.Seconds()-float64(b.N)*settle.Seconds()), "changes/s")
	b.ReportMetric(100*float64(used)/float64(passed), "%core")
	b.ReportMetric(resident, "resident-MiB")
	b.ReportMetric(0, "ns/op")
}

// end ends the agents and the server.
func (c *crowd) end(b *testing.B) {
	b.Helper()
	for _, p := range []*exec.Cmd{c.agents, c.proc} {
		check(b, p.Process.Signal(syscall.SIGTERM))
		_ = p.Wait() // how it ended is of no interest
	}
}

// latencies watches all Pods; the function it returns says how long after each change it was seen.
func (c *crowd) latencies(b *testing.B) (stop func() []time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancel(noContext)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.api.base+"/api/v1/pods?watch=1", nil)
	check(b, err)
	response, err := c.api.client.Do(request)
	check(b, err)
	done := make(chan []time.Duration, 1)
	go func() {
		defer response.Body.Close()
		done <- readLatencies(json.NewDecoder(response.Body), time.Now().Add(settle)) // the first to come are all Pods there are
	}()
	return func() []time.Duration {
		b.Helper()
		cancel()
		seen := <-done
		if len(seen) < int(underChange/time.Second)*flips {
			b.Fatalf("%d changes were seen in %s, of about %d", len(seen), underChange, int(underChange/time.Second)*flips*2)
		}
		return seen
	}
}

// readLatencies reads events until they end. Changes before after are no news.
func readLatencies(events *json.Decoder, after time.Time) (seen []time.Duration) {
	newest := map[string]string{} // message by uid: a Pod is seen again for other reasons
	for {
		var event struct {
			Object struct {
				Metadata struct{ UID string }
				Status   struct {
					Conditions []struct{ Type, Message string }
				}
			}
		}
		if events.Decode(&event) != nil {
			return seen
		}
		now := time.Now()
		for _, condition := range event.Object.Status.Conditions {
			uid := event.Object.Metadata.UID
			made, err := strconv.ParseInt(condition.Message, 10, 64)
			if condition.Type != "Ready" || err != nil || newest[uid] == condition.Message {
				continue
			}
			newest[uid] = condition.Message
			if at := time.Unix(0, made); at.After(after) {
				seen = append(seen, now.Sub(at))
			}
		}
	}
}

// BenchmarkFiftyThousandPods is a Deployment of 50 000 Pods on 5 000 nodes without engines. ready-s is from the move of the branch
// until a watch shows the Deployment with all of them Ready; server-cpu-s is what the server used of the processor for it.
func BenchmarkFiftyThousandPods(b *testing.B) {
	const nodes, replicas = 5000, 50_000
	var ready, used []time.Duration
	var peak float64
	for b.Loop() {
		c := newCrowd(b, nodes, 0)
		time.Sleep(settle)
		commit := c.prepare(b, "web", map[string]string{"web.yaml": deployment("web", "hello:1.0", replicas)})
		all := watch(b, c.api, deployments, func(d readyReplicas) bool { return d.Status.ReadyReplicas == replicas })
		before := c.processor(b)
		began := c.land(b, commit)
		ready = append(ready, all().Sub(began))
		used = append(used, c.processor(b)-before)
		peak = max(peak, c.memory(b, "VmHWM"))
		c.end(b)
	}
	b.ReportMetric(median(ready).Seconds(), "ready-s")
	b.ReportMetric(median(used).Seconds(), "server-cpu-s")
	b.ReportMetric(peak, "peak-MiB")
	b.ReportMetric(0, "ns/op")
}
