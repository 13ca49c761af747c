package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const benchServices = 10_000

// large is a network of as many Services as a cluster is made for, every tenth of them headless with ten endpoints.
func large() *link.Network {
	n := link.NewNetwork()
	for i := range benchServices {
		svc := serviceOf(fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("svc-%d", i), fmt.Sprintf("10.96.%d.%d", i/250, i%250+1), corev1.ServicePort{Name: "http", Port: 80})
		if i%10 != 0 {
			put(n, svc)
			continue
		}
		svc.Spec.ClusterIP = corev1.ClusterIPNone
		s := slice(svc.Name, nil)
		for e := range 10 {
			s.Endpoints = append(s.Endpoints, endpoint(fmt.Sprintf("10.244.%d.%d", i/50, i%50*5+e%5+1), fmt.Sprintf("pod-%d", e)))
		}
		put(n, svc, s)
	}
	return n
}

func BenchmarkWholeNetwork(b *testing.B) {
	n := large()
	for b.Loop() {
		tableOf(n)
	}
}

func BenchmarkOneServiceChanges(b *testing.B) {
	n := large()
	t := tableOf(n)
	change := link.NetworkChange{Services: []types.NamespacedName{{Namespace: "ns-10", Name: "svc-10"}}}
	for b.Loop() {
		t = t.fork()
		t.update(n, change)
	}
}

func BenchmarkLookUp(b *testing.B) {
	t := tableOf(large())
	q := dns.Question{Name: "svc-4711.ns-11.svc.cluster.local.", Qtype: dns.TypeA, Qclass: dns.ClassINET}
	for b.Loop() {
		if a := t.answer(q); len(a.records) != 1 {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkQuestion asks the server over UDP, in turn with one of the same library that answers every question alike: its
// latency is what the machine and the library take.
func BenchmarkQuestion(b *testing.B) {
	port := freePort(b, "127.77.20.1")
	serverOn(b, "127.77.20.0/24", large(), port, noServers(b))
	bare := fakeOn(b, "127.77.20.2", 0, says(dns.RcodeSuccess, "svc.cluster.local. 5 IN A 10.96.0.1"))
	exchange(b, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.77.20.1"), port).String(), query("A", "svc-1.ns-1.svc.cluster.local."))
	own, other := dialer(b, "127.77.20.1", port), dialer(b, "127.77.20.2", bare.port)
	var took, base []time.Duration
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local.", i*7%benchServices, i*7%100)
		took, base = append(took, own(name)), append(base, other(name))
	}
	for i, name := range []string{"p50", "p99"} {
		at := []int{50, 99}[i]
		b.ReportMetric(percentile(took, at), name+"-µs")
		b.ReportMetric(percentile(took, at)/percentile(base, at), name+"/bare")
	}
}

// dialer returns a function that asks for a name over one socket and says how long the answer took.
func dialer(b *testing.B, address string, port uint16) func(name string) time.Duration {
	b.Helper()
	conn, err := dns.DialTimeout("udp", netip.AddrPortFrom(netip.MustParseAddr(address), port).String(), time.Second)
	check(b, err)
	b.Cleanup(func() { conn.Close() })
	client := &dns.Client{}
	return func(name string) time.Duration {
		begun := time.Now()
		m, _, err := client.ExchangeWithConnContext(context.Background(), query("A", name), conn)
		if err != nil || len(m.Answer) == 0 {
			b.Fatalf("%s: %v %v", name, err, m)
		}
		return time.Since(begun)
	}
}

func percentile(all []time.Duration, at int) float64 {
	slices.Sort(all)
	return float64(all[min(len(all)-1, len(all)*at/100)].Nanoseconds()) / 1000
}
