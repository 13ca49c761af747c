package podnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

var podRange = netip.MustParsePrefix("10.244.7.0/24")

const dialTimeout = 2 * time.Second

// open returns a network that is removed with the test.
func open(t *testing.T, cluster string) *Network {
	t.Helper()
	return openIn(t, cluster, podRange)
}

// openIn is open with another range.
func openIn(t *testing.T, cluster string, pods netip.Prefix) *Network {
	t.Helper()
	n, err := Open(Config{Cluster: cluster, Pods: pods, Local: netip.MustParsePrefix("10.244.0.0/16")})
	check(t, err)
	t.Cleanup(func() {
		check(t, n.Cleanup(context.Background()))
		n.Close()
	})
	check(t, n.Sync(t.Context(), nil))
	return n
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sandbox is a process with a network namespace of its own.
type sandbox struct {
	ns      string
	process *exec.Cmd
}

func newSandbox(t *testing.T) sandbox {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	check(t, cmd.Start())
	s := sandbox{ns: "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net", process: cmd}
	t.Cleanup(s.kill)
	return s
}

func (s sandbox) kill() {
	s.process.Process.Kill()
	s.process.Wait()
}

func plug(t *testing.T, n *Network, key string, ports ...HostPort) (sandbox, netip.Addr) {
	t.Helper()
	s := newSandbox(t)
	address, err := n.Plug(t.Context(), Port{Key: key, NetNS: s.ns, HostPorts: ports})
	check(t, err)
	return s, address
}

// in runs fn in a network namespace; sockets that it opens stay there.
func in(t *testing.T, ns string, fn func()) {
	t.Helper()
	if ns == "" {
		fn()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	check(t, err)
	defer own.Close()
	other, err := netns.GetFromPath(ns)
	check(t, err)
	defer other.Close()
	check(t, netns.Set(other))
	defer func() { check(t, netns.Set(own)) }()
	fn()
}

// serve answers each connection with the address it came from.
func serve(t *testing.T, ns, address string) {
	t.Helper()
	var listener net.Listener
	in(t, ns, func() {
		var err error
		listener, err = net.Listen("tcp4", address)
		check(t, err)
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			io.WriteString(conn, host)
			conn.Close()
		}
	}()
}

// ask returns the address that a server sees; "" if it cannot be reached.
func ask(t *testing.T, ns, address string) (seen string) {
	t.Helper()
	in(t, ns, func() {
		conn, err := net.DialTimeout("tcp4", address, dialTimeout)
		if err != nil {
			t.Logf("dial: %v", err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(dialTimeout))
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Logf("read: %v", err)
		}
		seen = string(answer)
	})
	return seen
}

// dropping starts an engine on a host that does not forward yet. The engine turns that on, and then drops what it does not know.
func dropping(t *testing.T) {
	t.Helper()
	check(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0))
	testhost.Local(t)
	if out, err := exec.Command("iptables", "-S", "FORWARD").Output(); err != nil || !strings.Contains(string(out), "-P FORWARD DROP") {
		t.Fatalf("the engine's firewall is not what this test is about (%v):\n%s", err, out)
	}
}

// TestTraffic runs everything behind a real Docker Engine's firewall.
func TestTraffic(t *testing.T) {
	dropping(t)
	switched := testhost.NewNetwork(t)
	outside := switched.BareHost(t)
	host := switched.Gateway().String()

	n := open(t, "traffic")
	web, webIP := plug(t, n, "web", HostPort{HostPort: 8080, Port: 80, Protocol: corev1.ProtocolTCP},
		HostPort{HostIP: switched.Gateway(), HostPort: 8081, Port: 80})
	client, clientIP := plug(t, n, "client")
	serve(t, web.ns, ":80")
	serve(t, "", ":9000")
	serve(t, outside.NetNS, ":9002")
	outside.Run(t, "ip", "route", "add", podRange.String(), "via", host)

	for name, tc := range map[string]struct {
		from, to, want string // want is the source the server sees; "" if it must not be reached
	}{
		"host to Pod":                     {"", webIP.String() + ":80", gateway(podRange).String()},
		"Pod to Pod":                      {client.ns, webIP.String() + ":80", clientIP.String()},
		"Pod to itself":                   {web.ns, webIP.String() + ":80", webIP.String()},
		"Pod to its loopback":             {web.ns, "127.0.0.1:80", "127.0.0.1"},
		"Pod to host":                     {client.ns, host + ":9000", clientIP.String()},
		"Pod outwards":                    {client.ns, outside.IP.String() + ":9002", host},
		"outside to Pod, with a route":    {outside.NetNS, webIP.String() + ":80", outside.IP.String()},
		"outside to host port":            {outside.NetNS, host + ":8080", outside.IP.String()},
		"outside to host port of one IP":  {outside.NetNS, host + ":8081", outside.IP.String()},
		"host to host port":               {"", host + ":8080", host},
		"host to host port by loopback":   {"", "127.0.0.1:8080", gateway(podRange).String()},
		"host port of one IP by another":  {"", "127.0.0.1:8081", ""},
		"Pod to host port":                {client.ns, host + ":8080", gateway(podRange).String()},
		"Pod to its own host port":        {web.ns, host + ":8080", gateway(podRange).String()},
		"Pod to host port by the gateway": {client.ns, gateway(podRange).String() + ":8080", gateway(podRange).String()},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, tc.from, tc.to); got != tc.want {
				t.Errorf("the server sees %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPodsCannotReachTheHostsLoopback has a Pod send packets for 127.0.0.1 out of its link, as only root in it can.
func TestPodsCannotReachTheHostsLoopback(t *testing.T) {
	n := open(t, "loopback")
	evil, _ := plug(t, n, "evil")
	serve(t, "", "127.0.0.1:9001")
	for _, command := range []string{
		"sysctl -w net.ipv4.conf.eth0.route_localnet=1", "ip addr del 127.0.0.1/8 dev lo", "ip route add 127.0.0.1 via " + gateway(podRange).String(),
	} {
		run(t, "nsenter --net="+evil.ns+" "+command)
	}
	if ask(t, evil.ns, "127.0.0.1:9001") != "" {
		t.Error("the Pod reached the host's loopback")
	}
	// Without the rule it does: else this test would prove nothing.
	run(t, "nft flush chain ip "+n.Name()+" protect")
	if ask(t, evil.ns, "127.0.0.1:9001") == "" {
		t.Error("the Pod did not even try")
	}
}

func run(t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

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
	link, err := n.handle.LinkByName(portName("one"))
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
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if _, err := n.handle.LinkByName(portName(key)); err != nil {
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

func TestSyncRepairs(t *testing.T) {
	dropping(t)
	n := open(t, "repair")
	port := HostPort{HostPort: 8080, Port: 80}
	web, address := plug(t, n, "web", port)
	client, _ := plug(t, n, "client")
	serve(t, web.ns, ":80")
	wanted := []Port{{Key: "web", HostPorts: []HostPort{port}}, {Key: "client"}}

	for _, tc := range []struct{ name, damage string }{
		{"table removed", "nft delete table ip " + n.Name()},
		{"chain flushed", "nft flush chain ip " + n.Name() + " prerouting"},
		{"host ports flushed", "nft flush map ip " + n.Name() + " " + anyPorts},
		{"Docker's chain wiped", "iptables -F DOCKER-USER"},
		{"bridge down", "ip link set " + n.Name() + " down"},
		{"bridge without an address", "ip addr flush dev " + n.Name()},
		{"bridge removed", "ip link del " + n.Name()},
		{"port taken off", "ip link set " + portName("web") + " nomaster"},
		{"everything flushed", "nft flush ruleset"}, // Docker's too, so it goes last
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, tc.damage)
			check(t, n.Sync(t.Context(), wanted))
			if got := ask(t, client.ns, address.String()+":80"); got == "" {
				t.Error("the Pod cannot be reached from another")
			}
			if got := ask(t, "", "127.0.0.1:8080"); got == "" {
				t.Error("the host port does not answer")
			}
		})
	}
}

func TestSyncDropsHostPortsOfTheGone(t *testing.T) {
	n := open(t, "stale")
	port := HostPort{HostPort: 8080, Port: 80}
	dying, _ := plug(t, n, "one", port)
	dying.kill()
	awaitLink(t, n, "one")
	check(t, n.Sync(t.Context(), nil))
	plug(t, n, "two", port)
}

// TestOthersRulesStay asserts P12 for rules and links: everything else is the same before, during and after.
func TestOthersRulesStay(t *testing.T) {
	testhost.Local(t)
	before := foreign(t)
	n := open(t, "polite")
	other := openIn(t, "other cluster", netip.MustParsePrefix("10.244.8.0/24"))
	_, kept := plug(t, other, "theirs", HostPort{HostPort: 9090, Port: 80})
	plug(t, n, "ours", HostPort{HostPort: 8080, Port: 80})
	check(t, n.Cleanup(t.Context()))
	if ports, _ := other.Ports(); ports["theirs"] != kept {
		t.Error("Cleanup took the port of another cluster")
	}
	check(t, other.Cleanup(t.Context()))
	if after := foreign(t); after != before {
		t.Errorf("rules and links before:\n%s\nafter:\n%s", before, after)
	}
}

// Two clusters with one range would take each other's traffic, so the second waits for a range of its own.
func TestARangeThatOthersHoldIsRefused(t *testing.T) {
	first := open(t, "first")
	_, kept := plug(t, first, "theirs")
	second, err := Open(Config{Cluster: "second", Pods: netip.MustParsePrefix("10.244.7.128/25")})
	check(t, err)
	t.Cleanup(func() {
		check(t, second.Cleanup(context.Background()))
		second.Close()
	})
	before := foreign(t)
	s := newSandbox(t)
	port := Port{Key: "ours", NetNS: s.ns}
	_, plugged := second.Plug(t.Context(), port)
	for doing, err := range map[string]error{"Plug": plugged, "Sync": second.Sync(t.Context(), nil)} {
		overlap := new(OverlapError)
		if !errors.As(err, &overlap) || overlap.Interface != first.Name() || overlap.Prefix != netip.PrefixFrom(gateway(podRange), podRange.Bits()) {
			t.Errorf("%s: %v, want an overlap with %s", doing, err, first.Name())
		}
	}
	if after := foreign(t); after != before {
		t.Errorf("rules and links before:\n%s\nafter:\n%s", before, after)
	}
	run(t, "ip link add late type veth peer name later")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "late").Run() })
	run(t, "ip addr add 10.244.7.200/32 dev late")
	again, err := Open(Config{Cluster: "first", Pods: podRange}) // as after a restart
	check(t, err)
	defer again.Close()
	check(t, again.Sync(t.Context(), nil))
	if ports, err := again.Ports(); err != nil || ports["theirs"] != kept {
		t.Errorf("ports = %v, %v, want %s as before", ports, err, kept)
	}
	run(t, "ip link del late")
	check(t, first.Cleanup(t.Context()))
	if _, err := second.Plug(t.Context(), port); err != nil {
		t.Errorf("the range is free, and yet: %v", err)
	}
}

// foreign is every rule and link of the host.
func foreign(t *testing.T) string {
	t.Helper()
	rules, err := exec.Command("nft", "-s", "list", "ruleset").Output()
	check(t, err)
	links, err := exec.Command("ip", "-br", "link").Output()
	check(t, err)
	return string(rules) + string(links)
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
