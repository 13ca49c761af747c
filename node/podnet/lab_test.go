package podnet

import (
	"context"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// lab is a router between two subnets, each a bridge of its own with hosts on it. It is a network namespace, and so is each host.
type lab struct {
	sandbox
	hosts int
}

// subnet is the first or second of the lab's subnets; the router has its last address.
func subnet(number int) netip.Prefix {
	return netip.MustParsePrefix("10.9." + strconv.Itoa(number) + ".0/24")
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{sandbox: newSandbox(t)}
	for number, address := range map[int]string{1: "10.9.1.254/24", 2: "10.9.2.254/24"} {
		lan := "lan" + strconv.Itoa(number)
		l.run(t, "ip link add "+lan+" type bridge")
		l.run(t, "ip addr add "+address+" dev "+lan)
		l.run(t, "ip link set "+lan+" up")
	}
	l.run(t, "ip link set lo up")
	l.run(t, "sysctl -qw net.ipv4.ip_forward=1")
	return l
}

func (s sandbox) run(t testing.TB, command string) string {
	t.Helper()
	out, err := s.try(command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

func (s sandbox) try(command string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--net=" + s.ns}, strings.Fields(command)...)...).CombinedOutput()
	return string(out), err
}

// machine is a host of the lab with a network of Pods.
type machine struct {
	sandbox
	t    testing.TB
	self Peer
	*Network
}

// host adds a host on a subnet. Its Pods are in 10.244.<number of the host>.0/24.
func (l *lab) host(t testing.TB, lan int) *machine {
	t.Helper()
	l.hosts++
	number := strconv.Itoa(l.hosts)
	m := &machine{sandbox: newSandbox(t), t: t}
	m.self = Peer{Name: "n" + number, Pods: netip.MustParsePrefix("10.244." + number + ".0/24"), Address: subnet(lan).Addr()}
	for range l.hosts {
		m.self.Address = m.self.Address.Next()
	}
	port := "h" + number
	l.run(t, "ip link add "+port+" type veth peer name eth0 netns "+strconv.Itoa(m.process.Process.Pid))
	l.run(t, "ip link set "+port+" up master lan"+strconv.Itoa(lan))
	m.run(t, "ip link set lo up")
	m.run(t, "ip addr add "+m.self.Address.String()+"/24 dev eth0")
	m.run(t, "ip link set eth0 up")
	m.run(t, "ip route add default via 10.9."+strconv.Itoa(lan)+".254")
	m.open(t)
	return m
}

// open starts to use the host as a new agent does.
func (m *machine) open(t testing.TB) {
	t.Helper()
	in(t, m.ns, func() {
		var err error
		m.Network, err = Open(Config{Cluster: "lab", Pods: m.self.Pods, Local: netip.MustParsePrefix("10.244.0.0/16")})
		check(t, err)
		check(t, m.Network.Sync(t.Context(), nil))
	})
	t.Cleanup(m.Network.Close)
}

func (m *machine) setPeers(peers ...*machine) (err error) {
	var list []Peer
	for _, peer := range peers {
		list = append(list, peer.self)
	}
	in(m.t, m.ns, func() { err = m.Network.SetPeers(m.t.Context(), list) })
	return err
}

func (m *machine) sync() (err error) {
	in(m.t, m.ns, func() { err = m.Network.Sync(context.Background(), nil) })
	return err
}

func (m *machine) plug(t testing.TB, key string, ports ...HostPort) (s sandbox, address netip.Addr) {
	t.Helper()
	in(t, m.ns, func() { s, address = plug(t, m.Network, key, ports...) })
	return s, address
}

// threeHosts returns two hosts of one subnet and one of the other, which know each other.
func threeHosts(t testing.TB) (l *lab, a, b, c *machine) {
	t.Helper()
	l = newLab(t)
	a, b, c = l.host(t, 1), l.host(t, 1), l.host(t, 2)
	for _, m := range []*machine{a, b, c} {
		check(t, m.setPeers(a, b, c))
	}
	return l, a, b, c
}
