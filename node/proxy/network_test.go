package proxy

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// servers is newWorld with a server in both Pods.
func servers(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.serve(w.one, "one")
	w.serve(w.two, "two")
	return w
}

func TestConnectionsSpreadAndKeepThePodsAddress(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp"} {
		w := servers(t)
		w.apply(service(corev1.Protocol(strings.ToUpper(protocol)), plain), at(oneIP), at(twoIP))
		count := map[string]int{}
		for range 60 {
			count[w.once(w.one, protocol, clusterIP+":80")]++
		}
		// To itself, a Pod comes by the node's address: it would drop what comes from its own.
		if a, b := count["one "+gatewayIP], count["two "+oneIP]; a < 12 || b < 12 || a+b != 60 {
			t.Errorf("%s: %v", protocol, count)
		}
	}
}

func TestWhoReachesWhat(t *testing.T) {
	local := func(spec *corev1.ServiceSpec) {
		nodePort(spec)
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	external := func(spec *corev1.ServiceSpec) { spec.ExternalIPs = []string{"198.51.100.7"} }
	for name, tc := range map[string]struct {
		from     func(*world) string // who asks, at what address
		change   func(*corev1.ServiceSpec)
		endpoint discoveryv1.Endpoint
		want     string
	}{
		"the node, without a default route": {byNode(clusterIP + ":80"), plain, at(twoIP), "two " + gatewayIP},
		"node port from outside":            {byClient(nodeIP + ":30080"), nodePort, at(twoIP), "two " + gatewayIP},
		"node port keeps the client":        {byClient(nodeIP + ":30080"), local, at(twoIP), "two " + clientIP},
		"node port from the node itself":    {byNode(nodeIP + ":30080"), nodePort, at(twoIP), "two " + gatewayIP},
		"node port from a Pod":              {byPod(nodeIP + ":30080"), nodePort, at(twoIP), "two " + gatewayIP},
		"a Pod is no client from outside":   {byPod(nodeIP + ":30080"), local, at(twoIP, elsewhere), "two " + oneIP},
		"external IP":                       {byClient("198.51.100.7:80"), external, at(twoIP), "two " + gatewayIP},
		"external IP from a Pod":            {byPod("198.51.100.7:80"), external, at(twoIP), "two " + gatewayIP},
		"the last ones terminate":           {byPod(clusterIP + ":80"), plain, at(twoIP, terminating), "two " + oneIP},
	} {
		t.Run(name, func(t *testing.T) {
			w := servers(t)
			w.apply(service(corev1.ProtocolTCP, tc.change), tc.endpoint)
			if got := tc.from(w); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func byNode(address string) func(*world) string {
	return func(w *world) string { return w.once(w.node, "tcp", address) }
}

func byClient(address string) func(*world) string {
	return func(w *world) string { return w.once(w.client, "tcp", address) }
}

func byPod(address string) func(*world) string {
	return func(w *world) string { return w.once(w.one, "tcp", address) }
}

func TestWithoutEndpointsConnectionsAreRefusedAtOnce(t *testing.T) {
	w := servers(t)
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		w.apply(service(protocol, nodePort), at(twoIP, unready))
		network := strings.ToLower(string(protocol))
		start := time.Now()
		for name, got := range map[string]string{
			"Pod":        w.once(w.one, network, clusterIP+":80"),
			"node":       w.once(w.node, network, clusterIP+":80"),
			"client":     w.once(w.client, network, nodeIP+":30080"),
			"other port": w.once(w.one, network, clusterIP+":81"),
			"no Service": w.once(w.one, network, "10.96.0.51:80"),
		} {
			// What the node itself sends by UDP the kernel refuses without a message on the wire.
			atOnce := network == "udp" && name == "node" && strings.HasSuffix(got, "operation not permitted")
			if !atOnce && !strings.HasSuffix(got, "connection refused") {
				t.Errorf("%s by %s: %q", name, network, got)
			}
		}
		if took := time.Since(start); took > timeout/2 {
			t.Errorf("refusing by %s took %s", network, took)
		}
	}
}

func TestLocalPolicyIsSilentWithoutAnEndpointHere(t *testing.T) {
	w := servers(t)
	w.apply(service(corev1.ProtocolTCP, func(spec *corev1.ServiceSpec) {
		policy := corev1.ServiceInternalTrafficPolicyLocal
		spec.InternalTrafficPolicy = &policy
	}), at(twoIP, elsewhere))
	if got := w.briefly(w.one, "tcp", clusterIP+":80"); !strings.HasSuffix(got, "i/o timeout") {
		t.Errorf("got %q", got)
	}
}

func TestEstablishedConnectionsSurviveUpdates(t *testing.T) {
	w := servers(t)
	svc := service(corev1.ProtocolTCP, plain)
	w.apply(svc, at(oneIP))
	conn, err := w.dial(w.two, "tcp", clusterIP+":80")
	check(t, err)
	for name, change := range map[string]func(){
		"another endpoint": func() { w.apply(svc, at(oneIP), at(twoIP)) },
		"not ready":        func() { w.apply(svc, at(oneIP, unready), at(twoIP)) },
		"terminating":      func() { w.apply(svc, at(oneIP, terminating), at(twoIP)) },
		"another port": func() {
			w.apply(service(corev1.ProtocolTCP, func(s *corev1.ServiceSpec) { s.Ports[0].Port = 81 }), at(oneIP))
		},
		"all again": func() { w.applyChange(link.NetworkChange{Whole: true}) },
	} {
		change()
		if got := ask(conn); got != "one "+twoIP {
			t.Errorf("after %s: %q", name, got)
		}
	}
}

// A host that vanished answers nobody: who asks it just then is led to another endpoint once the Service has turned away from it,
// instead of waiting for it, and instead of those who use the port again within two minutes.
func TestConnectionsThatNobodyAnsweredAreLedElsewhere(t *testing.T) {
	w := servers(t)
	w.in(w.one, func() {
		out, err := exec.Command("nft", "add table ip deaf; add chain ip deaf in { type filter hook input priority 0; policy drop; }").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	svc := service(corev1.ProtocolTCP, plain)
	w.apply(svc, at(oneIP))
	answered := make(chan string, 1)
	go func() {
		conn, err := w.dial(w.client, "tcp", clusterIP+":80")
		if err != nil {
			answered <- err.Error()
			return
		}
		answered <- ask(conn)
	}()
	for deadline := time.Now().Add(timeout); !w.tracks(oneIP); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asks")
		}
	}
	w.apply(svc, at(oneIP, unready), at(twoIP))
	if got := <-answered; got != "two "+gatewayIP {
		t.Errorf("got %q", got)
	}
}

// tracks says whether the node's kernel keeps a connection to an address.
func (w *world) tracks(target string) bool {
	flows, err := w.handle(w.node).ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	check(w.t, err)
	return slices.ContainsFunc(flows, func(f *netlink.ConntrackFlow) bool { return f.Reverse.SrcIP.String() == target })
}

func TestConnectionsToEndpointsThatAreGoneEnd(t *testing.T) {
	w := servers(t)
	for _, protocol := range []string{"tcp", "udp"} {
		svc := service(corev1.Protocol(strings.ToUpper(protocol)), plain)
		w.apply(svc, at(oneIP))
		conn, err := w.dial(w.client, protocol, clusterIP+":80")
		check(t, err)
		if got := ask(conn); got != "one "+gatewayIP {
			t.Fatalf("%s: %q", protocol, got)
		}
		w.apply(svc, at(twoIP))
		got := ask(conn)
		if protocol == "udp" && got != "two "+gatewayIP {
			t.Errorf("udp goes on to %q", got)
		}
		if protocol == "tcp" && !strings.HasSuffix(got, "reset by peer") {
			t.Errorf("tcp goes on: %q", got)
		}
	}
}

func TestUDPSentTooEarlyFindsTheServiceLater(t *testing.T) {
	w := servers(t)
	w.route(w.node, "0.0.0.0/0", "outer", clientIP)
	w.proxy.config.Services = netip.Prefix{} // or it would have been refused
	w.applyChange(link.NetworkChange{Whole: true})
	conn, err := w.dial(w.one, "udp", clusterIP+":80")
	check(t, err)
	if _, err := conn.Write([]byte("lost\n")); err != nil {
		t.Fatal(err)
	}
	w.apply(service(corev1.ProtocolUDP, plain), at(twoIP))
	if got := ask(conn); got != "two "+oneIP {
		t.Errorf("got %q", got)
	}
}

func TestClientsKeepTheirEndpoint(t *testing.T) {
	w := servers(t)
	seconds := int32(1)
	svc := service(corev1.ProtocolTCP, func(spec *corev1.ServiceSpec) {
		nodePort(spec)
		spec.SessionAffinity = corev1.ServiceAffinityClientIP
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	})
	w.apply(svc, at(oneIP), at(twoIP))
	first := w.once(w.client, "tcp", nodeIP+":30080")
	for i := range 20 {
		if i == 10 {
			w.apply(svc, at(oneIP), at(twoIP), at("10.244.9.9"))
			w.proxy = New(w.proxy.config) // the agent starts again
			w.applyChange(link.NetworkChange{Whole: true})
		}
		for _, address := range []string{nodeIP + ":30080", clusterIP + ":80"} {
			if got := w.once(w.client, "tcp", address); got != first {
				t.Fatalf("%q after %q, at %s", got, first, address)
			}
		}
	}
	stays, goes := oneIP, twoIP
	if strings.HasPrefix(first, "one") {
		stays, goes = twoIP, oneIP
	}
	w.apply(svc, at(stays))
	if got := w.once(w.client, "tcp", nodeIP+":30080"); got == first || !strings.HasSuffix(got, gatewayIP) {
		t.Errorf("%q although %s is gone", got, goes)
	}
	w.clientsAreForgotten(timeout)
}

// clientsAreForgotten waits until no chain remembers a client.
func (w *world) clientsAreForgotten(within time.Duration) {
	w.t.Helper()
	for deadline := time.Now().Add(within); ; {
		remembered := 0
		w.in(w.node, func() {
			names, err := w.proxy.nft.List(context.Background(), "sets")
			check(w.t, err)
			for _, name := range names {
				if strings.HasPrefix(name, "keep-") {
					list, err := w.proxy.nft.ListElements(context.Background(), "set", name)
					check(w.t, err)
					remembered += len(list)
				}
			}
		})
		if remembered == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d clients are remembered", remembered)
		}
	}
}

func TestAChangedTableIsProgrammedAgain(t *testing.T) {
	w := servers(t)
	w.apply(service(corev1.ProtocolTCP, plain), at(twoIP))
	table := TableName("test")
	other := " tcp-endpoints { " + clusterIP + " . 80 . 0 "
	for _, damage := range []string{"delete element ip " + table + other + "}; add element ip " + table + other + ": " + oneIP + " . 8080 }", "delete element ip " + table + " services { " + clusterIP + " . tcp . 80 }", "flush ruleset", "flush table ip " + table, "flush chain ip " + table + " translate",
		"flush table ip " + table + "; delete table ip " + table + "; add table ip " + table + "; add map ip " + table + " services { type ipv4_addr : verdict; }"} {
		w.in(w.node, func() {
			out, err := exec.Command("nft", damage).CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %s", damage, out)
			}
		})
		if got := w.briefly(w.one, "tcp", clusterIP+":80"); got == "two "+oneIP {
			t.Fatalf("%s did no damage", damage)
		}
		w.proxy.read = time.Time{} // elements are read at every look
		w.applyChange(link.NetworkChange{})
		if got := w.once(w.one, "tcp", clusterIP+":80"); got != "two "+oneIP {
			t.Errorf("after %s: %q", damage, got)
		}
	}
}

// What the proxy has programmed it recognises, or it would program it again at every look.
func TestAnUnchangedTableIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	var said bytes.Buffer
	w.proxy.config.Log = slog.New(slog.NewTextHandler(&said, nil))
	every := func(spec *corev1.ServiceSpec) {
		nodePort(spec)
		spec.ExternalIPs = []string{"198.51.100.7"}
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	crowd(w.network, 100, 3)
	w.applyChange(link.NetworkChange{Whole: true})
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		for _, endpoints := range [][]discoveryv1.Endpoint{{at(oneIP), at(twoIP, elsewhere)}, {at(twoIP, elsewhere)}, {}} {
			w.apply(service(protocol, every), endpoints...)
			w.proxy.read = time.Time{}
			w.applyChange(link.NetworkChange{})
		}
	}
	if strings.Contains(said.String(), "level=WARN") {
		t.Error(said.String())
	}
}

func TestAHostWithoutTheTableIsNothingToWarnOf(t *testing.T) {
	w := newWorld(t)
	var said bytes.Buffer
	w.proxy.config.Log = slog.New(slog.NewTextHandler(&said, nil))
	w.applyChange(link.NetworkChange{Whole: true})
	if strings.Contains(said.String(), "level=WARN") {
		t.Error(said.String())
	}
}

func TestCleanupLeavesNothing(t *testing.T) {
	w := servers(t)
	w.apply(service(corev1.ProtocolTCP, plain), at(twoIP))
	w.in(w.node, func() {
		for range 2 {
			check(t, Cleanup(t.Context(), "test"))
		}
		nft, err := knftables.New(knftables.IPv4Family, TableName("test"))
		check(t, err)
		if list, err := nft.List(t.Context(), "chains"); !knftables.IsNotFound(err) {
			t.Errorf("chains %v, %v", list, err)
		}
	})
}
