package e2e

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkAgent measures an agent with 50 Pods of which nothing happens to any, for 20 s a round.
func BenchmarkAgent(b *testing.B) {
	f := newFleet(b, 1, map[string]string{"mainstay.yaml": aCluster, "web.yaml": sleepers("web", "hello:1.0", replicas)})
	m := f.nodes[0]
	f.unread(b)
	time.Sleep(settle)
	var used, passed time.Duration
	var resident float64
	for b.Loop() {
		began, before := time.Now(), m.processor(b)
		time.Sleep(idle)
		used += m.processor(b) - before
		passed += time.Since(began)
		resident = max(resident, m.memory(b, "VmRSS"))
	}
	b.ReportMetric(resident, "resident-MiB")
	b.ReportMetric(100*float64(used)/float64(passed), "%core")
	b.ReportMetric(0, "ns/op")
}

const aCluster = "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: fleet}\n"

// knock is how often a connection is tried.
const knock = 2 * time.Millisecond

// BenchmarkEndpointGone kills a container of a Service on one node while connections are made through the other. ms-p50 and
// ms-max are from the kill until the last connection that failed: docker's event, the agent's report, the EndpointSlice, and
// the other node's rules all lie between.
func BenchmarkEndpointGone(b *testing.B) {
	f := newFleet(b, 2, map[string]string{
		"mainstay.yaml": aCluster,
		"web.yaml":      onNode(deployment("stays", "hello:1.0", 1), "n1", "web") + "---\n" + onNode(deployment("goes", "hello:1.0", 1), "n2", "web") + strings.Replace(service("web", "NodePort", "nodePort: 30080", ""), "{app: web}", "{web: web}", 1),
	})
	through, dying := f.nodes[0].host, f.nodes[1]
	var took []time.Duration
	for b.Loop() {
		f.ready(b, 2)
		time.Sleep(settle) // the back-off of what was killed before
		last := knocks(through.IP.String() + nodePort)
		killed := time.Now()
		killApp(b, dying)
		time.Sleep(2 * time.Second)
		took = append(took, max(0, last().Sub(killed)))
	}
	b.ReportMetric(milliseconds(median(took)), "ms-p50")
	b.ReportMetric(milliseconds(slices.Max(took)), "ms-max")
	b.ReportMetric(0, "ns/op")
}

// onNode is a Deployment whose Pods run on one node and are endpoints of a Service of another name.
func onNode(deployment, node, service string) string {
	deployment = strings.Replace(deployment, "    spec:\n", "    spec:\n      nodeName: "+node+"\n", 1)
	return strings.Replace(deployment, "      labels: {app: ", "      labels: {web: "+service+", app: ", 1)
}

// killApp ends a node's only app container as a crash does.
func killApp(b *testing.B, m *member) {
	b.Helper()
	for name, c := range m.containers(b) {
		if strings.HasPrefix(name, "ms_app_") {
			m.host.API(b, "POST", "/containers/"+c.ID+"/kill", nil, nil)
			return
		}
	}
	b.Fatalf("no app container on %s", m.name)
}

// knocks makes connections one after another until the returned function is called, which says when the last one failed.
func knocks(address string) (last func() time.Time) {
	var mu sync.Mutex
	var failed time.Time
	var all sync.WaitGroup
	end := make(chan struct{})
	all.Go(func() {
		tick := time.NewTicker(knock)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				conn, err := net.DialTimeout("tcp", address, time.Second)
				if err == nil {
					_ = conn.Close()
					continue
				}
				mu.Lock()
				failed = time.Now()
				mu.Unlock()
			}
		}
	})
	return func() time.Time {
		close(end)
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		return failed
	}
}
