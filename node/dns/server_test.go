package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/link"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serverOn returns a running server for a node whose Pods have the range.
func serverOn(t testing.TB, podCIDR string, n *link.Network, port uint16, resolvConf string) *Server {
	t.Helper()
	s := New(Config{Node: "me", Port: port, ResolvConf: resolvConf, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	n.Peers["me"] = link.Peer{Name: "me", PodCIDR: podCIDR}
	check(t, s.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s
}

// freePort is one that nobody listens on at the address.
func freePort(t testing.TB, address string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	check(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// exchange repeats a question until somebody listens.
func exchange(t testing.TB, network, address string, r *dns.Msg) *dns.Msg {
	t.Helper()
	client := &dns.Client{Net: network, UDPSize: dns.MaxMsgSize}
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		var m *dns.Msg
		if m, _, err = client.ExchangeContext(t.Context(), r, address); err == nil {
			return m
		}
	}
	t.Fatalf("%s %s: %v", network, address, err)
	return nil
}

func query(kind, name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.StringToType[kind]) }

func noServers(t testing.TB) string { return resolvConf(t) }

// resolvConf writes one that names servers.
func resolvConf(t testing.TB, servers ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "search example.com\n"
	for _, server := range servers {
		text += "nameserver " + server + "\n"
	}
	check(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestServesUDPAndTCP(t *testing.T) {
	port := freePort(t, "127.77.0.1")
	serverOn(t, "127.77.0.0/24", example(), port, noServers(t))
	for _, network := range []string{"udp", "tcp"} {
		m := exchange(t, network, fmt.Sprintf("127.77.0.1:%d", port), query("A", "wEb.ShOp.svc.cluster.local."))
		if got := text(m.Answer); len(got) != 1 || got[0] != "wEb.ShOp.svc.cluster.local. A 10.96.0.2" {
			t.Errorf("%s: %v", network, got)
		}
		if m.Question[0].Name != "wEb.ShOp.svc.cluster.local." || !m.Authoritative || !m.RecursionAvailable || m.IsEdns0() != nil {
			t.Errorf("%s: %v", network, m)
		}
		if got := m.Answer[0].Header().Ttl; got != ttl {
			t.Errorf("%s: TTL %d", network, got)
		}
	}
}

// A headless Service without endpoints has no address, so a search path goes on to its short name alone. That nobody outside
// can be asked for it must not look like a failure of names.
func TestAServiceWithoutEndpointsIsNoFailureOfNames(t *testing.T) {
	n := link.NewNetwork()
	key := types.NamespacedName{Namespace: "shop", Name: "db"}
	n.Services[key] = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}
	s := New(Config{Node: "me", ResolvConf: noServers(t), Log: slog.New(slog.DiscardHandler)})
	check(t, s.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	for name, want := range map[string]int{
		"db.shop.svc.cluster.local.": dns.RcodeNameError, "db.svc.cluster.local.": dns.RcodeNameError, "db.": dns.RcodeNameError,
		"nas.": dns.RcodeServerFailure, "db.example.com.": dns.RcodeServerFailure, // others may know these, and cannot be asked
	} {
		m, _ := s.respond(t.Context(), query("A", name))
		if m.Rcode != want || len(m.Answer) > 0 {
			t.Errorf("%s: %s %v, want %s", name, dns.RcodeToString[m.Rcode], m.Answer, dns.RcodeToString[want])
		}
	}
}

func TestLongAnswersAreCutOffForUDPOnly(t *testing.T) {
	n := example()
	var endpoints []discoveryv1.Endpoint
	for i := range 250 {
		endpoints = append(endpoints, endpoint(fmt.Sprintf("10.244.1.%d", i+1), ""))
	}
	put(n, serviceOf("shop", "many", corev1.ClusterIPNone), slice("many-1", nil, endpoints...))
	port := freePort(t, "127.77.1.1")
	serverOn(t, "127.77.1.0/24", n, port, noServers(t))
	address := fmt.Sprintf("127.77.1.1:%d", port)
	plain, large := query("A", "many.shop.svc.cluster.local."), query("A", "many.shop.svc.cluster.local.")
	large.SetEdns0(4096, true)
	for name, tc := range map[string]struct {
		network string
		r       *dns.Msg
		most    int
	}{
		"udp": {"udp", plain, dns.MinMsgSize}, "udp with EDNS0": {"udp", large, udpSize}, "tcp": {"tcp", plain, dns.MaxMsgSize},
	} {
		m := exchange(t, tc.network, address, tc.r)
		m.Compress = true
		cut := tc.network == "udp"
		if m.Truncated != cut || (len(m.Answer) < 250) != cut || len(m.Answer) == 0 || m.Len() > tc.most {
			t.Errorf("%s: %d answers in %d bytes, truncated %t", name, len(m.Answer), m.Len(), m.Truncated)
		}
		if opt := m.IsEdns0(); (opt != nil) != (tc.r == large) || opt != nil && !opt.Do() {
			t.Errorf("%s: EDNS0 %v", name, opt)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	s := New(Config{Node: "me", ResolvConf: noServers(t), Log: slog.New(slog.DiscardHandler)})
	if m, _ := s.respond(t.Context(), query("A", "web.shop.svc.cluster.local.")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("before anything is known: %v", m)
	}
	check(t, s.Apply(t.Context(), example(), link.NetworkChange{}))
	name := "web.shop.svc.cluster.local."
	two, version, notify, chaos := query("A", name), query("A", name), query("A", name), query("A", name)
	two.Question = append(two.Question, two.Question[0])
	version.SetEdns0(udpSize, false).IsEdns0().SetVersion(1)
	notify.Opcode = dns.OpcodeNotify
	chaos.Question[0].Qclass = dns.ClassCHAOS
	for _, tc := range []struct {
		r     *dns.Msg
		rcode int
	}{
		{query("A", name), dns.RcodeSuccess}, {two, dns.RcodeFormatError}, {version, dns.RcodeBadVers}, {notify, dns.RcodeNotImplemented},
		{chaos, dns.RcodeRefused}, {query("ANY", name), dns.RcodeRefused}, {query("AXFR", "cluster.local."), dns.RcodeRefused},
		{query("A", "example.com."), dns.RcodeServerFailure},
	} {
		if m, _ := s.respond(t.Context(), tc.r); m.Rcode != tc.rcode || (len(m.Answer) > 0) != (tc.rcode == 0) {
			t.Errorf("%v\nis answered by %v", tc.r, m)
		}
	}
}

func TestListensWhereThePodsAre(t *testing.T) {
	port, n := freePort(t, "127.77.2.1"), example()
	s := serverOn(t, "", n, port, noServers(t))
	for _, pods := range []string{"127.77.2.0/24", "127.77.3.0/24"} {
		n.Peers["me"] = link.Peer{Name: "me", PodCIDR: pods}
		check(t, s.Apply(t.Context(), n, link.NetworkChange{Peers: true}))
		address := netip.MustParsePrefix(pods).Addr().Next()
		exchange(t, "udp", netip.AddrPortFrom(address, port).String(), query("A", "web.shop.svc.cluster.local."))
	}
	// Whoever serves the new place has left the old one.
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.77.2.1:%d", port)); err == nil {
		conn.Close()
		t.Error("the old address is still served")
	}
	n.Peers["me"] = link.Peer{Name: "me", PodCIDR: "nonsense"}
	if err := s.Apply(t.Context(), n, link.NetworkChange{Peers: true}); err == nil || !strings.Contains(err.Error(), "pod range of node me") {
		t.Errorf("a range that is none: %v", err)
	}
}

func TestListensBeforeTheAddressExists(t *testing.T) {
	l, err := listen(t.Context(), netip.MustParseAddrPort("192.0.2.1:5353"))
	check(t, err)
	check(t, l.udp.Close())
	check(t, l.tcp.Close())
}

func TestWhoeverAppliesHearsThatThePortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.77.4.1:0")
	check(t, err)
	defer taken.Close()
	n, port := example(), taken.Addr().(*net.TCPAddr).AddrPort().Port()
	s := serverOn(t, "127.77.4.0/24", n, port, noServers(t))
	for end := time.Now().Add(30 * time.Second); err == nil && time.Now().Before(end); {
		err = s.Apply(t.Context(), n, link.NetworkChange{})
	}
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("error %v", err)
	}
	n.Peers["me"] = link.Peer{Name: "me", PodCIDR: "127.77.5.0/24"}
	_ = s.Apply(t.Context(), n, link.NetworkChange{Whole: true})
	exchange(t, "udp", fmt.Sprintf("127.77.5.1:%d", port), query("A", "web.shop.svc.cluster.local."))
	check(t, s.Apply(t.Context(), n, link.NetworkChange{}))
}

func TestNamesChangeUnderLookUps(t *testing.T) {
	s, n := New(Config{Node: "me", ResolvConf: noServers(t), Log: slog.New(slog.DiscardHandler)}), example()
	check(t, s.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	var asking sync.WaitGroup
	changing, stop := context.WithCancel(t.Context())
	for range 4 {
		asking.Go(func() {
			for changing.Err() == nil {
				if m, _ := s.respond(t.Context(), query("SRV", "_http._tcp.db.shop.svc.cluster.local.")); len(m.Answer) == 0 {
					t.Error("the name was absent")
				}
			}
		})
	}
	for i := range 300 {
		svc := serviceOf("shop", "db", corev1.ClusterIPNone)
		http := []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080))}}
		key := put(n, svc, slice("db-1", http, endpoint(fmt.Sprintf("10.244.0.%d", i%200+1), "")))
		check(t, s.Apply(t.Context(), n, link.NetworkChange{Services: []types.NamespacedName{key}}))
	}
	stop()
	asking.Wait()
}

func TestAnswersAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := New(Config{Node: "me", ResolvConf: noServers(t), Metrics: reg, Log: slog.New(slog.DiscardHandler)})
	check(t, s.Apply(t.Context(), example(), link.NetworkChange{Whole: true}))
	for _, r := range []*dns.Msg{
		query("A", "web.shop.svc.cluster.local."), query("A", "db.shop.svc.cluster.local."), query("A", "absent.shop.svc.cluster.local."),
		query("A", "www.example.com."), query("ANY", "web.shop.svc.cluster.local."),
	} {
		s.handle(t.Context(), nowhere{}, r)
	}
	families, err := reg.Gather()
	check(t, err)
	got := map[string]float64{}
	for _, m := range families[1].GetMetric() {
		got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	want := map[string]float64{"cluster ok": 2, "cluster absent": 1, "upstream failed": 1, "none refused": 1}
	if diff := cmp.Diff(want, got); diff != "" || families[1].GetName() != "mainstay_dns_answers_total" {
		t.Errorf("%s: %s", families[1].GetName(), diff)
	}
}

// nowhere takes answers that nobody reads.
type nowhere struct{ dns.ResponseWriter }

func (nowhere) RemoteAddr() net.Addr      { return &net.UDPAddr{} }
func (nowhere) WriteMsg(m *dns.Msg) error { return nil }
