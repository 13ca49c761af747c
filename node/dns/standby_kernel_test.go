package dns

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// A resolver uses its ports again and again, and the kernel remembers where each led: neither to an agent that was there before,
// nor to the node that stood in for it.
func TestAPortThatIsUsedAgainLeadsToWhoListensNow(t *testing.T) {
	const gateway, pod, other, cluster = "10.244.3.1", "10.244.3.2", "10.244.4.1", "10.96.0.10"
	here, asker, there := newNamespace(t), newNamespace(t), newNamespace(t)
	inside(t, here, func() {
		connect(t, asker, "pod0", gateway, pod)
		connect(t, there, "other0", "192.0.2.1", other)
		check(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
		s := NewStandby("test", "me", slog.New(slog.NewTextHandler(t.Output(), nil)))
		check(t, s.Apply(t.Context(), standing(gateway, other), link.NetworkChange{Whole: true}))
	})
	answering(t, there, other)
	wants := func(at, want string) {
		t.Helper()
		if got, err := askFrom(t, asker, netip.MustParseAddrPort(pod+":4000"), netip.MustParseAddrPort(at+":53")); got != want {
			t.Fatalf("%s was to answer, not %q, %v", want, got, err)
		}
	}
	stop := answering(t, here, gateway)
	wants(gateway, gateway)
	stop()
	wants(gateway, other)
	answering(t, here, gateway)
	wants(gateway, gateway)
	wants(cluster, other)
}

func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	var made netns.NsHandle
	own, err := netns.Get()
	check(t, err)
	defer own.Close()
	inside(t, own, func() {
		made, err = netns.New()
		check(t, err)
	})
	t.Cleanup(func() { made.Close() })
	return made
}

// inside runs fn in a network namespace; sockets that it opens stay there.
func inside(t *testing.T, ns netns.NsHandle, fn func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	check(t, err)
	defer own.Close()
	check(t, netns.Set(ns))
	defer func() { check(t, netns.Set(own)) }()
	fn()
}

// connect makes a link between the present namespace and another, and routes both ways.
func connect(t *testing.T, to netns.NsHandle, link, near, far string) {
	t.Helper()
	ip := func(args string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("link add " + link + " type veth peer name " + link + "p")
	peer, err := netlink.LinkByName(link + "p")
	check(t, err)
	check(t, netlink.LinkSetNsFd(peer, int(to)))
	ip("link set lo up")
	ip("link set " + link + " up")
	ip("addr add " + near + "/32 dev " + link)
	ip("route add " + far + "/32 dev " + link)
	inside(t, to, func() {
		ip("link set lo up")
		ip("link set " + link + "p up")
		ip("addr add " + far + "/32 dev " + link + "p")
		ip("route add " + near + "/32 dev " + link + "p")
		ip("route add default via " + near + " dev " + link + "p")
	})
}

// answering answers every question at an address by that address, until it is stopped.
func answering(t *testing.T, ns netns.NsHandle, address string) (stop func()) {
	t.Helper()
	var socket net.PacketConn
	inside(t, ns, func() {
		var err error
		socket, err = net.ListenPacket("udp4", address+":53")
		check(t, err)
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buffer := make([]byte, 512); ; {
			_, from, err := socket.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if _, err := socket.WriteTo([]byte(address), from); err != nil {
				t.Error(err)
			}
		}
	}()
	stop = func() {
		socket.Close()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// askFrom sends a question from a port and returns the answer.
func askFrom(t *testing.T, ns netns.NsHandle, from, to netip.AddrPort) (answer string, err error) {
	t.Helper()
	inside(t, ns, func() {
		var conn *net.UDPConn
		conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = conn.Write([]byte("who?"))
		check(t, err)
		buffer := make([]byte, 512)
		var n int
		n, err = conn.Read(buffer)
		answer = string(buffer[:n])
	})
	return answer, err
}
