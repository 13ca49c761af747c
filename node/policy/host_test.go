package policy

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/api/netpolicy/suite"
	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

var (
	gateway = netip.MustParseAddr("10.244.7.1")
	served  = []int{80, 81}
)

// deadline is for what must arrive; nothing waits for what must not.
const deadline = 20 * time.Second

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, command string) {
	t.Helper()
	args := strings.Fields(command)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// host routes between network namespaces that stand for Pods, each with one address and nothing but a route to the host.
type host struct {
	namespaces map[string]netns.NsHandle // by address; that of the host itself by the gateway's
	tcp        map[netip.AddrPort]int    // listening sockets
	udp        map[netip.AddrPort]int
}

// newHost makes a namespace for every Pod of the suite, where TCP and UDP are served at the ports of the suite; at port 53 of
// the host too.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{namespaces: map[string]netns.NsHandle{}, tcp: map[netip.AddrPort]int{}, udp: map[netip.AddrPort]int{}}
	own, err := netns.Get()
	check(t, err)
	t.Cleanup(func() { own.Close() })
	check(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	run(t, "ip addr add "+gateway.String()+"/32 dev lo")
	t.Cleanup(func() { run(t, "ip addr del "+gateway.String()+"/32 dev lo") })
	h.namespaces[gateway.String()] = own
	h.serve(t, gateway, append(served, 53))
	for i, pod := range suite.Cases()[0].Pods {
		h.plug(t, fmt.Sprintf("np%d", i), netip.MustParseAddr(pod.Status.PodIP))
	}
	return h
}

func (h *host) plug(t *testing.T, link string, address netip.Addr) {
	t.Helper()
	process := exec.Command("sleep", "infinity")
	process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	check(t, process.Start())
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	ns, err := netns.GetFromPid(process.Process.Pid)
	check(t, err)
	t.Cleanup(func() { ns.Close() })
	h.namespaces[address.String()] = ns
	run(t, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", link, process.Process.Pid))
	run(t, "ip link set "+link+" up")
	t.Cleanup(func() { exec.Command("ip", "link", "del", link).Run() })
	run(t, "ip route add "+address.String()+" dev "+link+" src "+gateway.String())
	inside := fmt.Sprintf("nsenter --net=/proc/%d/ns/net ip ", process.Process.Pid)
	for _, command := range []string{
		"link set lo up", "addr add " + address.String() + "/32 dev eth0", "link set eth0 up",
		"route add " + gateway.String() + " dev eth0", "route add default via " + gateway.String(),
	} {
		run(t, inside+command)
	}
	h.serve(t, address, served)
}

func (h *host) serve(t *testing.T, address netip.Addr, ports []int) {
	t.Helper()
	h.in(t, address.String(), func() {
		for _, port := range ports {
			at := netip.AddrPortFrom(address, uint16(port))
			h.tcp[at], h.udp[at] = socket(t, syscall.SOCK_STREAM), socket(t, syscall.SOCK_DGRAM)
			for _, fd := range []int{h.tcp[at], h.udp[at]} {
				check(t, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)) // of an earlier test
				check(t, syscall.Bind(fd, sockaddr(at)))
			}
			check(t, syscall.Listen(h.tcp[at], 1024))
		}
	})
}

// in runs fn in a Pod's network namespace; sockets that it opens stay there.
func (h *host) in(t *testing.T, pod string, fn func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	check(t, netns.Set(h.namespaces[pod]))
	defer func() { check(t, netns.Set(h.namespaces[gateway.String()])) }()
	fn()
}

// socket is one that never blocks, closed with the test.
func socket(t *testing.T, kind int) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

func sockaddr(a netip.AddrPort) *syscall.SockaddrInet4 {
	return &syscall.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// try is a packet that was sent: that which opens a TCP connection, or a datagram.
type try struct {
	protocol corev1.Protocol
	from     string
	to       netip.AddrPort
	fd       int
}

// send sends before it returns.
func (h *host) send(t *testing.T, protocol corev1.Protocol, from string, to netip.AddrPort) *try {
	t.Helper()
	kind := syscall.SOCK_STREAM
	if protocol == corev1.ProtocolUDP {
		kind = syscall.SOCK_DGRAM
	}
	out := &try{protocol: protocol, from: from, to: to}
	h.in(t, from, func() {
		out.fd = socket(t, kind)
		check(t, syscall.Bind(out.fd, sockaddr(netip.AddrPortFrom(netip.MustParseAddr(from), 0))))
		if err := syscall.Connect(out.fd, sockaddr(to)); err != nil && err != syscall.EINPROGRESS {
			check(t, err)
		}
		if kind == syscall.SOCK_DGRAM {
			_, err := syscall.Write(out.fd, []byte("x"))
			check(t, err)
		}
	})
	return out
}

// arrived says whether a try has got through by now; datagrams are collected in got, by source.
func (h *host) arrived(t *testing.T, p *try, got map[netip.AddrPort]bool) bool {
	t.Helper()
	if p.protocol == corev1.ProtocolTCP {
		_, err := syscall.Getpeername(p.fd)
		return err == nil
	}
	own, err := syscall.Getsockname(p.fd)
	check(t, err)
	h.collect(h.udp[p.to], got)
	from := own.(*syscall.SockaddrInet4)
	return got[netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port))]
}

func (h *host) collect(fd int, got map[netip.AddrPort]bool) {
	for buf := make([]byte, 1); ; {
		_, from, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			return
		}
		a := from.(*syscall.SockaddrInet4)
		got[netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))] = true
	}
}

// judge fails the test unless all of wanted, and none of unwanted, get through. What is unwanted is sent first, so that it has
// arrived, if it does, when what was sent after it has.
func (h *host) judge(t *testing.T, wanted, unwanted []suite.Probe) {
	t.Helper()
	var passing, failing []*try
	for _, p := range unwanted {
		failing = append(failing, h.send(t, p.Protocol, p.From.Status.PodIP, target(p)))
	}
	for _, p := range wanted {
		passing = append(passing, h.send(t, p.Protocol, p.From.Status.PodIP, target(p)))
	}
	got := map[netip.AddrPort]bool{}
	for i, p := range passing {
		h.await(t, p, got, wanted[i].String())
	}
	for i, p := range failing {
		if h.arrived(t, p, got) {
			t.Errorf("%s got through", unwanted[i])
		}
	}
	h.drain(t)
}

// drain takes the connections that nobody will use, so that there is always room for more.
func (h *host) drain(t *testing.T) {
	t.Helper()
	for _, listener := range h.tcp {
		for {
			fd, _, err := syscall.Accept4(listener, syscall.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			check(t, syscall.Close(fd))
		}
	}
}

func (h *host) await(t *testing.T, p *try, got map[netip.AddrPort]bool, what string) {
	t.Helper()
	for end := time.Now().Add(deadline); !h.arrived(t, p, got); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s does not get through", what)
		}
	}
}

func target(p suite.Probe) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(p.To.Status.PodIP), uint16(p.Port))
}

// accept takes the connection that was opened last.
func (h *host) accept(t *testing.T, at netip.AddrPort) int {
	t.Helper()
	fd, _, err := syscall.Accept4(h.tcp[at], syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	check(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

// exchange sends a byte over a connection.
func (h *host) exchange(t *testing.T, from, to int) {
	t.Helper()
	_, err := syscall.Write(from, []byte("x"))
	check(t, err)
	buf := make([]byte, 1)
	for end := time.Now().Add(deadline); ; runtime.Gosched() {
		if n, _ := syscall.Read(to, buf); n == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nothing comes over a connection that stood before")
		}
	}
}

// flood sends datagrams, each from a port of its own so that none belongs to a connection, until done. It says how many.
func (h *host) flood(t *testing.T, from string, to netip.AddrPort, done <-chan error) (sent int, err error) {
	t.Helper()
	for ; ; sent++ {
		select {
		case err := <-done:
			return sent, err
		default:
			h.datagram(t, from, to)
		}
	}
}

// datagram sends one from a port of its own.
func (h *host) datagram(t *testing.T, from string, to netip.AddrPort) {
	t.Helper()
	h.in(t, from, func() {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		check(t, err)
		defer syscall.Close(fd)
		check(t, syscall.Sendto(fd, []byte("x"), 0, sockaddr(to)))
	})
}
