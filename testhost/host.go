package testhost

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Host is a Linux host with a Docker Engine, for as long as the test runs. Its methods fail the test they are given.
type Host struct {
	Name   string     // unique on the machine, e.g. mst3-1
	Dir    string     // for anything that belongs to the host; removed with it. Short, so sockets fit
	NetNS  string     // path of its network namespace
	IP     netip.Addr // how the other hosts of its network and the test reach it; 127.0.0.1 for Local
	engine *engine
}

// New makes a host with a running engine on a network of its own.
func New(t testing.TB) *Host {
	t.Helper()
	return NewNetwork(t).Host(t)
}

// Network joins the hosts made on it and the test process.
type Network struct {
	site  *site
	hosts int
}

// NewNetwork makes a network without hosts.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	s := newSite(t)
	s.connect(t)
	return &Network{site: s}
}

// Gateway is the address of the test process on the network.
func (n *Network) Gateway() netip.Addr { return n.site.address(gatewayHost) }

// Host adds a host with a running engine. Not safe for concurrent use.
func (n *Network) Host(t testing.TB) *Host {
	t.Helper()
	h := n.BareHost(t)
	h.StartEngine(t)
	return h
}

// BareHost adds a host whose engine does not run yet.
func (n *Network) BareHost(t testing.TB) *Host {
	t.Helper()
	n.hosts++
	h := n.site.host(t, n.hosts)
	h.IP = n.site.address(n.hosts)
	n.site.plug(t, h, n.hosts)
	return h
}

// ownNetNS is the test process's own network namespace.
const ownNetNS = "/proc/self/ns/net"

// Local gives the test process's own network namespace an engine. It needs Main: an engine in the namespace that the machine
// itself uses would rewrite the firewall rules of the user's.
func Local(t testing.TB) *Host {
	t.Helper()
	own, err := os.Readlink(ownNetNS)
	must(t, err)
	if machine := os.Getenv(inside); machine == "" || own == machine {
		t.Fatal("testhost.Local needs a network namespace of its own: call testhost.Main from TestMain")
	}
	h := newSite(t).host(t, 1)
	h.IP = netip.MustParseAddr("127.0.0.1")
	h.NetNS = ownNetNS
	h.StartEngine(t)
	return h
}

// Command is exec.CommandContext on the host: in its network namespace.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.NetNS, name}, args...)...)
}

// Run runs a program on the host and returns its output. It fails the test if the program fails.
func (h *Host) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := h.Command(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s %v: %v\n%s", h.Name, name, args, err, out)
	}
	return string(out)
}

// Socket is the path of the engine's socket.
func (h *Host) Socket() string { return filepath.Join(h.Dir, "d.sock") }

// DockerHost is Socket as $DOCKER_HOST.
func (h *Host) DockerHost() string { return "unix://" + h.Socket() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// require fails the test unless it runs as root with these programs, naming the Debian packages that have them.
func require(t testing.TB, programs map[string]string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("tests with hosts of their own need network namespaces and a Docker Engine: run them as root")
	}
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", program, pkg)
		}
	}
}

// run runs a program of the machine and fails the test if it fails.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if err := tryRun(name, args...); err != nil {
		t.Fatal(err)
	}
}

func tryRun(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}
