package podnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

var podRange = netip.MustParsePrefix("10.244.7.0/24")

// dialTimeout is for what must answer, however busy the machine is; silence is how long is waited where nobody may.
const dialTimeout, silence = 30 * time.Second, 2 * time.Second

// patience is how long to wait for whom a test wants to answer; "" is nobody.
func patience(want string) time.Duration {
	if want == "" {
		return silence
	}
	return dialTimeout
}

// open returns a network that is removed with the test.
func open(t testing.TB, cluster string) *Network {
	t.Helper()
	return openIn(t, cluster, podRange)
}

// openIn is open with another range.
func openIn(t testing.TB, cluster string, pods netip.Prefix) *Network {
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

func check(t testing.TB, err error) {
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

func newSandbox(t testing.TB) sandbox {
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

func plug(t testing.TB, n *Network, key string, ports ...HostPort) (sandbox, netip.Addr) {
	t.Helper()
	s := newSandbox(t)
	address, err := n.Plug(t.Context(), Port{Key: key, NetNS: s.ns, HostPorts: ports})
	check(t, err)
	return s, address
}

// in runs fn in a network namespace; sockets that it opens stay there.
func in(t testing.TB, ns string, fn func()) {
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
func serve(t testing.TB, ns, address string) {
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
func ask(t testing.TB, ns, address string) (seen string) {
	t.Helper()
	return askWithin(t, dialTimeout, ns, address)
}

func askWithin(t testing.TB, patience time.Duration, ns, address string) (seen string) {
	t.Helper()
	in(t, ns, func() {
		conn, err := net.DialTimeout("tcp4", address, patience)
		if err != nil {
			t.Logf("dial: %v", err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Logf("read: %v", err)
		}
		seen = string(answer)
	})
	return seen
}

func run(t testing.TB, command string) {
	t.Helper()
	args := strings.Fields(command)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
