package proxy

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// world is a node with two Pods that are routed to, as node/podnet does, and a client outside, each in a network namespace of its own. The node has no
// default route.
type world struct {
	t                      testing.TB
	node, client, one, two netns.NsHandle
	proxy                  *Proxy
	network                *link.Network
	patience               time.Duration // of who connects
}

const (
	nodeIP, clientIP        = "192.0.2.1", "192.0.2.2"
	gatewayIP, oneIP, twoIP = "10.244.7.1", "10.244.7.2", "10.244.7.3"
	clusterIP               = "10.96.0.50"
	// timeout is for what must answer, however busy the machine is; silence is how long is waited where nothing may.
	timeout, silence = 30 * time.Second, 2 * time.Second
)

var web = types.NamespacedName{Namespace: "default", Name: "web"}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, network: link.NewNetwork(), patience: timeout}
	for _, ns := range []*netns.NsHandle{&w.node, &w.client, &w.one, &w.two} {
		*ns = newNamespace(t)
	}
	check(t, w.handle(w.node).LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "gate0"}}))
	w.address(w.node, "gate0", gatewayIP+"/32")
	w.join(w.client, "outer")
	w.address(w.client, "eth0", clientIP+"/24")
	w.address(w.node, "outer", nodeIP+"/24")
	w.route(w.client, "0.0.0.0/0", "eth0", nodeIP)
	for ip, ns := range map[string]netns.NsHandle{oneIP: w.one, twoIP: w.two} {
		end := "pod" + ip[len(ip)-1:]
		w.join(ns, end)
		w.address(ns, "eth0", ip+"/32")
		w.route(ns, "0.0.0.0/0", "eth0", gatewayIP)
		w.address(w.node, end, gatewayIP+"/32") // it answers for the gateway
		w.route(w.node, ip+"/32", end, "")
	}
	w.in(w.node, func() { check(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)) })
	w.proxy = New(Config{Cluster: "test", Node: "n1", Pods: netip.MustParsePrefix("10.244.0.0/16"),
		Services: netip.MustParsePrefix("10.96.0.0/16"), Bridge: "gate0", Log: slog.New(slog.DiscardHandler)})
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	check(t, err)
	defer own.Close()
	ns, err := netns.New()
	check(t, err)
	check(t, netns.Set(own))
	t.Cleanup(func() { ns.Close() })
	return ns
}

func (w *world) handle(ns netns.NsHandle) *netlink.Handle {
	w.t.Helper()
	h, err := netlink.NewHandleAt(ns)
	check(w.t, err)
	w.t.Cleanup(h.Close)
	return h
}

// join makes a link between ns and the node.
func (w *world) join(ns netns.NsHandle, name string) {
	w.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	check(w.t, w.handle(w.node).LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}))
}

// address gives an interface an address, and has it up.
func (w *world) address(ns netns.NsHandle, name, prefix string) {
	w.t.Helper()
	h := w.handle(ns)
	for _, name := range []string{"lo", name} {
		l, err := h.LinkByName(name)
		check(w.t, err)
		check(w.t, h.LinkSetUp(l))
	}
	l, err := h.LinkByName(name)
	check(w.t, err)
	address, err := netlink.ParseAddr(prefix)
	check(w.t, err)
	check(w.t, h.AddrAdd(l, address))
}

func (w *world) route(ns netns.NsHandle, to, device, via string) {
	w.t.Helper()
	h := w.handle(ns)
	l, err := h.LinkByName(device)
	check(w.t, err)
	_, dst, err := net.ParseCIDR(to)
	check(w.t, err)
	r := &netlink.Route{Dst: dst, LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK}
	if via != "" {
		r.Gw, r.Scope, r.Flags = net.ParseIP(via), netlink.SCOPE_UNIVERSE, int(netlink.FLAG_ONLINK)
	}
	check(w.t, h.RouteAdd(r))
}

// in runs fn in a network namespace; sockets that it opens stay there.
func (w *world) in(ns netns.NsHandle, fn func()) {
	w.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	check(w.t, err)
	defer own.Close()
	check(w.t, netns.Set(ns))
	defer func() { check(w.t, netns.Set(own)) }()
	fn()
}

// apply changes the one Service and its slice and has the proxy carry it out.
func (w *world) apply(svc *corev1.Service, endpoints ...discoveryv1.Endpoint) {
	w.t.Helper()
	w.network.Services[web] = svc
	w.network.Slices[web] = map[string]*discoveryv1.EndpointSlice{"web-1": sliceOf(svc, endpoints...)}
	w.applyChange(link.NetworkChange{Services: []types.NamespacedName{web}})
}

func (w *world) applyChange(c link.NetworkChange) {
	w.t.Helper()
	w.in(w.node, func() { check(w.t, w.proxy.Apply(context.Background(), w.network, c)) })
}

func service(protocol corev1.Protocol, change func(*corev1.ServiceSpec)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP,
			Ports: []corev1.ServicePort{{Name: "p", Protocol: protocol, Port: 80}}},
	}
	change(&svc.Spec)
	return svc
}

func plain(*corev1.ServiceSpec) {}

func nodePort(spec *corev1.ServiceSpec) {
	spec.Type, spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
}

// sliceOf holds endpoints at port 8080 for the Service's first port.
func sliceOf(svc *corev1.Service, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	port := svc.Spec.Ports[0]
	number := int32(8080)
	return &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: &port.Name, Protocol: &port.Protocol, Port: &number}}}
}

// at is a ready endpoint on the node, with conditions as changes say.
func at(ip string, changes ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
	ready, serving, terminating, node := true, true, false, "n1"
	e := discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &node,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}}
	for _, change := range changes {
		change(&e)
	}
	return e
}

func terminating(e *discoveryv1.Endpoint) {
	*e.Conditions.Ready, *e.Conditions.Terminating = false, true
}

func unready(e *discoveryv1.Endpoint) { *e.Conditions.Ready, *e.Conditions.Serving = false, false }

func elsewhere(e *discoveryv1.Endpoint) { *e.NodeName = "n2" }

// serve answers each line with the server's name and the client's address, by TCP and UDP.
func (w *world) serve(ns netns.NsHandle, name string) {
	w.t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	w.in(ns, func() {
		var err error
		listener, err = net.Listen("tcp4", "0.0.0.0:8080")
		check(w.t, err)
		packets, err = net.ListenPacket("udp4", "0.0.0.0:8080")
		check(w.t, err)
	})
	w.t.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn, name)
		}
	}()
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			fmt.Fprintf(packetWriter{packets, from}, "%s %s\n", name, from.(*net.UDPAddr).IP)
		}
	}()
}

type packetWriter struct {
	net.PacketConn
	to net.Addr
}

func (w packetWriter) Write(p []byte) (int, error) { return w.WriteTo(p, w.to) }

func answer(conn net.Conn, name string) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fmt.Fprintf(conn, "%s %s\n", name, conn.RemoteAddr().(*net.TCPAddr).IP)
	}
}

// dial connects from a namespace.
func (w *world) dial(ns netns.NsHandle, network, address string) (conn net.Conn, err error) {
	w.in(ns, func() { conn, err = net.DialTimeout(network, address, w.patience) })
	if err == nil {
		w.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// ask sends a line and returns who answered and what client they saw; the error's text if nobody did.
func ask(conn net.Conn) string {
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fprintln(conn, "who"); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// once is dial and ask.
func (w *world) once(ns netns.NsHandle, network, address string) string {
	w.t.Helper()
	conn, err := w.dial(ns, network, address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return ask(conn)
}

// briefly is once where it may be that nobody answers.
func (w *world) briefly(ns netns.NsHandle, network, address string) string {
	w.t.Helper()
	w.patience = silence
	defer func() { w.patience = timeout }()
	return w.once(ns, network, address)
}
