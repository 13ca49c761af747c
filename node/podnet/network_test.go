package podnet

import (
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestPlugIsIdempotent(t *testing.T) {
	n := open(t, "idempotent")
	s, first := plug(t, n, "one")
	again, err := n.Plug(t.Context(), Port{Key: "one", NetNS: s.ns})
	if err != nil || again != first {
		t.Errorf("plugged again as %s (%v), want %s", again, err, first)
	}
	for range 2 {
		check(t, n.Unplug(t.Context(), "one"))
	}
	if ports, err := n.Ports(); err != nil || len(ports) != 0 {
		t.Errorf("after Unplug: %v, %v", ports, err)
	}
}

func TestNewNetworkFindsWhatIsPlugged(t *testing.T) {
	_, address := plug(t, open(t, "restart"), "one")
	n := open(t, "restart")
	if ports, err := n.Ports(); err != nil || ports["one"] != address {
		t.Errorf("ports %v (%v), want one at %s", ports, err, address)
	}
	if _, other := plug(t, n, "two"); other == address {
		t.Errorf("a second Pod got %s as well", other)
	}
}

func TestHalfPluggedSandboxIsPluggedAgain(t *testing.T) {
	n := open(t, "half")
	s, _ := plug(t, n, "one")
	link, err := n.handle.LinkByName(n.names.port("one"))
	check(t, err)
	check(t, n.handle.LinkSetAlias(link, ""))
	address, err := n.Plug(t.Context(), Port{Key: "one", NetNS: s.ns})
	check(t, err)
	if ports, _ := n.Ports(); ports["one"] != address || len(ports) != 1 {
		t.Errorf("ports %v, want one at %s", ports, address)
	}
}

func TestAddressesOfDeadSandboxesAreFreed(t *testing.T) {
	small := podRange
	podRange = netip.MustParsePrefix("10.244.7.0/29")
	defer func() { podRange = small }()
	n := open(t, "small")
	var dying sandbox
	for i := range 5 {
		dying, _ = plug(t, n, strconv.Itoa(i))
	}
	last := newSandbox(t)
	if _, err := n.Plug(t.Context(), Port{Key: "last", NetNS: last.ns}); err == nil {
		t.Fatal("a sixth sandbox was plugged into a range of five addresses")
	}
	dying.kill()
	awaitLink(t, n, "4")
	_, err := n.Plug(t.Context(), Port{Key: "last", NetNS: last.ns})
	check(t, err)
}

// awaitLink waits until the kernel, which removes namespaces in its own time, removed the link of a sandbox.
func awaitLink(t *testing.T, n *Network, key string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if _, err := n.handle.LinkByName(n.names.port(key)); err != nil {
			return
		}
	}
	t.Fatalf("the link of %s is still there", key)
}

func TestFailedPlugLeavesNothing(t *testing.T) {
	n := open(t, "failed")
	if _, err := n.Plug(t.Context(), Port{Key: "one", NetNS: "/nonexistent"}); err == nil {
		t.Error("plugged into a namespace that does not exist")
	}
	if ports, err := n.Ports(); err != nil || len(ports) != 0 {
		t.Errorf("ports %v, %v", ports, err)
	}
	if _, address := plug(t, n, "two"); address != netip.MustParseAddr("10.244.7.3") && address != netip.MustParseAddr("10.244.7.2") {
		t.Errorf("address %s", address)
	}
}

func TestHostPortHasOneOwner(t *testing.T) {
	n := open(t, "owner")
	port := HostPort{HostPort: 8080, Port: 80, Protocol: corev1.ProtocolTCP}
	plug(t, n, "one", port)
	s := newSandbox(t)
	if _, err := n.Plug(t.Context(), Port{Key: "two", NetNS: s.ns, HostPorts: []HostPort{port}}); err == nil {
		t.Error("two Pods have one host port")
	}
	check(t, n.Unplug(t.Context(), "one"))
	_, err := n.Plug(t.Context(), Port{Key: "two", NetNS: s.ns, HostPorts: []HostPort{port}})
	check(t, err)
}

func TestMTUFollowsTheUplink(t *testing.T) {
	run(t, "ip link add uplink0 mtu 1400 type veth peer name uplink1")
	run(t, "ip addr add 10.98.0.1/24 dev uplink0")
	run(t, "ip link set uplink0 up")
	run(t, "ip route add default via 10.98.0.2")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "uplink0").Run() })
	n := open(t, "mtu")
	s, _ := plug(t, n, "one")
	in(t, s.ns, func() {
		eth, err := net.InterfaceByName(podLink)
		if err != nil || eth.MTU != 1400 {
			t.Errorf("MTU of the Pod: %+v (%v), want 1400", eth, err)
		}
	})
}

// A node whose range was given to another while it was away gets another one: then nothing of the former may be left on it, or it would
// keep from the other what is for that.
func TestANodeThatMovesToAnotherRangeLeavesTheFormer(t *testing.T) {
	l := newLab(t)
	m, other := l.host(t, 1), l.host(t, 1)
	former := m.self.Pods
	for _, of := range []*machine{m, other} {
		check(t, of.setPeers(m, other))
	}
	old, _ := m.plug(t, "old")
	m.self.Pods, other.self.Pods = netip.MustParsePrefix("10.244.77.0/24"), former
	m.open(t)
	other.open(t)
	in(t, m.ns, func() {
		if strange, err := m.Strange("old"); err != nil || !strange {
			t.Errorf("a Pod with an address of the former range: strange %t, %v", strange, err)
		}
		check(t, m.Unplug(t.Context(), "old"))
		_, err := m.Plug(t.Context(), Port{Key: "new", NetNS: old.ns})
		check(t, err)
		if strange, err := m.Strange("new"); err != nil || strange {
			t.Errorf("a Pod with an address of the range: strange %t, %v", strange, err)
		}
	})
	for _, of := range []*machine{m, other} {
		check(t, of.setPeers(m, other))
		check(t, of.sync())
	}
	if routes := other.run(t, "ip route show type unreachable"); !strings.Contains(routes, former.String()) {
		t.Errorf("what no Pod has is still led to the node of before:\n%s", other.run(t, "ip route"))
	}
	theirs, address := other.plug(t, "theirs")
	serve(t, theirs.ns, ":80")
	for _, at := range []string{address.String(), gateway(former).String()} {
		if at != address.String() {
			serve(t, other.ns, at+":80")
		}
		for who, ns := range map[string]string{"the node": m.ns, "its Pod": old.ns} {
			if ask(t, ns, at+":80") == "" {
				t.Errorf("%s does not reach %s, of the node that has the range now", who, at)
			}
		}
	}
}
