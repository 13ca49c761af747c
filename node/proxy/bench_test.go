package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const manyServices, manyEndpoints = 10_000, 10

// crowd fills the network with Services.
func crowd(n *link.Network, services, endpoints int) {
	address, pod := netip.MustParseAddr("10.96.1.0"), netip.MustParseAddr("10.200.0.1")
	for i := range services {
		svc := service(corev1.ProtocolTCP, func(spec *corev1.ServiceSpec) { spec.ClusterIP = address.String() })
		svc.ObjectMeta = metav1.ObjectMeta{Namespace: "crowd", Name: fmt.Sprint("s", i)}
		var list []discoveryv1.Endpoint
		for range endpoints {
			list = append(list, at(pod.String(), elsewhere))
			pod = pod.Next()
		}
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		n.Services[name] = svc
		n.Slices[name] = map[string]*discoveryv1.EndpointSlice{"a": sliceOf(svc, list...)}
		address = address.Next()
	}
}

// BenchmarkFromScratch programs 10 000 Services of 10 endpoints into an empty table.
func BenchmarkFromScratch(b *testing.B) {
	w := newWorld(b)
	crowd(w.network, manyServices, manyEndpoints)
	var spent time.Duration
	for b.Loop() {
		b.StopTimer()
		w.in(w.node, func() { check(b, Cleanup(b.Context(), "test")) })
		before := processorTime(b)
		b.StartTimer()
		w.applyChange(link.NetworkChange{Whole: true})
		spent += processorTime(b) - before
	}
	b.ReportMetric(spent.Seconds()/float64(b.N), "cpu-s")
}

// processorTime is what this process and the nft that it ran have taken: on a busy machine more telling than a clock.
func processorTime(b *testing.B) (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var used unix.Rusage
		check(b, unix.Getrusage(who, &used))
		sum += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return sum
}

// BenchmarkWholeAgain programs them into the table that has them, as a new agent does.
func BenchmarkWholeAgain(b *testing.B) {
	w := newWorld(b)
	crowd(w.network, manyServices, manyEndpoints)
	w.applyChange(link.NetworkChange{Whole: true})
	for b.Loop() {
		w.proxy = New(w.proxy.config)
		w.applyChange(link.NetworkChange{Whole: true})
	}
}

// BenchmarkOneEndpoint changes one endpoint among them.
func BenchmarkOneEndpoint(b *testing.B) {
	w := newWorld(b)
	crowd(w.network, manyServices, manyEndpoints)
	w.applyChange(link.NetworkChange{Whole: true})
	name := types.NamespacedName{Namespace: "crowd", Name: "s4711"}
	old := w.network.Slices[name]["a"]
	less := old.DeepCopy()
	less.Endpoints = less.Endpoints[:manyEndpoints-1]
	for b.Loop() {
		old, less = less, old
		w.network.Slices[name] = map[string]*discoveryv1.EndpointSlice{"a": old}
		w.applyChange(link.NetworkChange{Services: []types.NamespacedName{name}})
	}
}

// BenchmarkNothing looks whether the table still stands.
func BenchmarkNothing(b *testing.B) {
	w := newWorld(b)
	crowd(w.network, manyServices, manyEndpoints)
	w.applyChange(link.NetworkChange{Whole: true})
	for b.Loop() {
		w.applyChange(link.NetworkChange{})
	}
}

// BenchmarkConnections connects by a cluster address, among 10 000 Services, and directly, by turns, so that what else the
// machine does hits both. Both ways lead through the node, as they do between nodes. It reports medians, and
// connections by the Service as a share of direct ones.
func BenchmarkConnections(b *testing.B) {
	w := newWorld(b)
	w.serve(w.two, "two")
	w.proxy.config.Pods = netip.MustParsePrefix(nodeIP + "/24") // the client counts as a Pod of another node
	crowd(w.network, manyServices, manyEndpoints)
	w.network.Services[web] = service(corev1.ProtocolTCP, plain)
	w.network.Slices[web] = map[string]*discoveryv1.EndpointSlice{"a": sliceOf(w.network.Services[web], at(twoIP))}
	w.applyChange(link.NetworkChange{Whole: true})
	var direct, routed []time.Duration
	w.in(w.client, func() {
		for i := 0; b.Loop(); i++ {
			if i%2 == 0 {
				direct = append(direct, connect(b, twoIP+":8080"))
				routed = append(routed, connect(b, clusterIP+":80"))
				continue
			}
			routed = append(routed, connect(b, clusterIP+":80"))
			direct = append(direct, connect(b, twoIP+":8080"))
		}
	})
	b.ReportMetric(1/median(routed).Seconds(), "routed/s")
	b.ReportMetric(1/median(direct).Seconds(), "direct/s")
	b.ReportMetric(median(direct).Seconds()/median(routed).Seconds(), "share")
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func connect(b *testing.B, address string) time.Duration {
	start := time.Now()
	conn, err := net.DialTimeout("tcp4", address, timeout)
	took := time.Since(start)
	check(b, err)
	// A reset leaves no port behind that waits for a minute.
	check(b, conn.(*net.TCPConn).SetLinger(0))
	check(b, conn.Close())
	return took
}
