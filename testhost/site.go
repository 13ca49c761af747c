package testhost

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

const (
	prefix   = "mst" // of every name that this package gives
	maxSites = 200   // the third byte of their addresses
	// gatewayHost is the test process's own place in a network.
	gatewayHost = 254
)

// site is what one test owns on this machine. Its directory is the lock on its number, and all its names follow from that.
type site struct {
	number int
	name   string
	dir    string
}

// newSite takes the first free number, after removing the sites of test processes that are gone.
func newSite(t testing.TB) *site {
	t.Helper()
	require(t, map[string]string{"dockerd": "docker.io", "nsenter": "util-linux", "ip": "iproute2", "iptables": "iptables"})
	sweep(t)
	for number := range maxSites {
		name := prefix + strconv.Itoa(number)
		s := &site{number: number, name: name, dir: filepath.Join(os.TempDir(), name)}
		switch err := os.Mkdir(s.dir, 0o755); {
		case errors.Is(err, os.ErrExist):
			continue
		case err != nil:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.remove(); err != nil {
				t.Errorf("remove test site %s: %v", s.name, err)
			}
		})
		must(t, s.claim())
		return s
	}
	t.Fatalf("all %d test sites are in use: see %s", maxSites, filepath.Join(os.TempDir(), prefix+"*"))
	return nil
}

func (s *site) address(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 99, byte(s.number), byte(host)})
}

func (s *site) netns(what any) string { return fmt.Sprintf("%s-%v", s.name, what) }

// connect makes the switch: a namespace with nothing but a bridge, so that no firewall rule of the machine sees its traffic,
// and the test process's own link to it.
func (s *site) connect(t testing.TB) {
	t.Helper()
	ns := s.netns("sw")
	run(t, "ip", "netns", "add", ns)
	run(t, "ip", "-n", ns, "link", "add", "br0", "type", "bridge")
	run(t, "ip", "-n", ns, "link", "set", "br0", "up")
	run(t, "ip", "link", "add", s.name, "type", "veth", "peer", "name", "up0", "netns", ns)
	run(t, "ip", "-n", ns, "link", "set", "up0", "master", "br0", "up")
	run(t, "ip", "addr", "add", s.address(gatewayHost).String()+"/24", "dev", s.name)
	run(t, "ip", "link", "set", s.name, "up")
}

// host makes the directory and the namespace of a host.
func (s *site) host(t testing.TB, number int) *Host {
	t.Helper()
	h := &Host{Name: s.netns(number), Dir: filepath.Join(s.dir, strconv.Itoa(number))}
	must(t, os.Mkdir(h.Dir, 0o755))
	h.NetNS = filepath.Join("/run/netns", h.Name)
	h.engine = &engine{name: h.Name, dir: h.Dir, bip: fmt.Sprintf("172.30.%d.1/24", number)}
	if len(h.Socket()) > maxSocketPath {
		t.Fatalf("the path %s is too long for a unix socket: set TMPDIR to a shorter one", h.Socket())
	}
	return h
}

// plug gives the host its namespace and the link to the switch.
func (s *site) plug(t testing.TB, h *Host, number int) {
	t.Helper()
	port := "h" + strconv.Itoa(number)
	run(t, "ip", "netns", "add", h.Name)
	run(t, "ip", "link", "add", port, "netns", s.netns("sw"), "type", "veth", "peer", "name", "eth0", "netns", h.Name)
	run(t, "ip", "-n", s.netns("sw"), "link", "set", port, "master", "br0", "up")
	run(t, "ip", "-n", h.Name, "addr", "add", h.IP.String()+"/24", "dev", "eth0")
	run(t, "ip", "-n", h.Name, "link", "set", "eth0", "up")
	run(t, "ip", "-n", h.Name, "link", "set", "lo", "up")
}

// maxSocketPath is what a unix socket's address holds, without the closing zero.
const maxSocketPath = 107
