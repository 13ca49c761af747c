package podnet

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"
)

const (
	benchBytes = 16 << 20
	benchConns = 200
)

// BenchmarkAcrossHosts compares Pods of two hosts with namespaces that were connected by hand: a veth and a static route each way. All
// hosts have the rules that a Docker Engine makes. Both take turns; of-static is what a median turn of theirs took in
// relation to one of ours, since other work of the machine disturbs single turns a lot.
func BenchmarkAcrossHosts(b *testing.B) {
	l := newLab(b)
	m, n, far := l.host(b, 1), l.host(b, 1), l.host(b, 1)
	separate(b, m, far)
	for _, machine := range []*machine{m, n, far} {
		machine.asDocker(b, "docker0", "172.17.0.0/16")
		check(b, machine.setPeers(m, n, far))
		check(b, machine.sync())
	}
	podM, _ := m.plug(b, "m")
	podN, ipN := n.plug(b, "n")
	podFar, ipFar := far.plug(b, "far")
	plainA, plainB, ipPlain := plainPair(b, l)
	for _, s := range []sandbox{podN, podFar, plainB} {
		discard(b, s.ns)
	}
	for name, tc := range map[string]struct {
		to netip.Addr
		do func(testing.TB, sandbox, netip.Addr) time.Duration
	}{
		"throughput/direct": {ipN, transfer}, "throughput/tunnel": {ipFar, transfer},
		"connections/direct": {ipN, connect}, "connections/tunnel": {ipFar, connect},
	} {
		b.Run(name, func(b *testing.B) {
			var static, ours []time.Duration
			for b.Loop() {
				static = append(static, tc.do(b, plainA, ipPlain))
				ours = append(ours, tc.do(b, podM, tc.to))
			}
			slices.Sort(static)
			slices.Sort(ours)
			b.ReportMetric(static[len(static)/2].Seconds()/ours[len(ours)/2].Seconds(), "of-static")
		})
	}
}

// separate gives far an address in no subnet, to which others have a route each, so that they use the tunnel although no router is
// between them: the lab's is a bridge, which takes large packets apart that are in a tunnel, as network cards do not.
func separate(t testing.TB, near, far *machine) {
	t.Helper()
	far.run(t, "ip addr flush dev eth0")
	far.self.Address = netip.MustParseAddr("192.0.2.1")
	for _, command := range []string{"ip addr add 192.0.2.1/32 dev eth0", "ip route add 10.9.1.0/24 dev eth0 src 192.0.2.1"} {
		far.run(t, command)
	}
	near.run(t, "ip route add 192.0.2.1/32 dev eth0")
}

// BenchmarkSetPeers has 1000 other nodes, half of them behind the tunnel: first all of them are new, then one of them moves each time,
// then nothing changes.
func BenchmarkSetPeers(b *testing.B) {
	m := newLab(b).host(b, 1)
	peers := []Peer{m.self}
	for i := range 1000 {
		address := netip.AddrFrom4([4]byte{10, 9, byte(1 + i%2), byte(1 + i%250)})
		peers = append(peers, Peer{
			Name: strconv.Itoa(i), Address: address, Pods: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i/250), byte(i % 250), 0}), 24),
		})
	}
	set := func(peers []Peer) { in(b, m.ns, func() { check(b, m.SetPeers(b.Context(), peers)) }) }
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			set(peers[:1])
			b.StartTimer()
			set(peers)
		}
	})
	b.Run("moved", func(b *testing.B) {
		for i := 1; b.Loop(); i = i%500 + 1 {
			peers[i].Address, peers[i+500].Address = peers[i+500].Address, peers[i].Address
			set(peers)
		}
	})
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			set(peers)
		}
	})
}

// asDocker makes the rules that a Docker Engine 20.10 makes for its bridge, and lets connections from elsewhere come in to that.
func (s sandbox) asDocker(t testing.TB, bridge, containers string) {
	t.Helper()
	for _, rule := range []string{
		"nat -N DOCKER", "nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
		"nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
		"nat -A POSTROUTING -s " + containers + " ! -o " + bridge + " -j MASQUERADE", "nat -A DOCKER -i " + bridge + " -j RETURN",
		"filter -N DOCKER", "filter -N DOCKER-USER", "filter -N DOCKER-ISOLATION-STAGE-1", "filter -N DOCKER-ISOLATION-STAGE-2",
		"filter -P FORWARD DROP", "filter -A FORWARD -j DOCKER-USER", "filter -A FORWARD -j DOCKER-ISOLATION-STAGE-1",
		"filter -A FORWARD -o " + bridge + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "filter -A FORWARD -o " + bridge + " -j DOCKER",
		"filter -A FORWARD -i " + bridge + " ! -o " + bridge + " -j ACCEPT", "filter -A FORWARD -i " + bridge + " -o " + bridge + " -j ACCEPT",
		"filter -A DOCKER-ISOLATION-STAGE-1 -i " + bridge + " ! -o " + bridge + " -j DOCKER-ISOLATION-STAGE-2",
		"filter -A DOCKER-ISOLATION-STAGE-1 -j RETURN", "filter -A DOCKER-ISOLATION-STAGE-2 -o " + bridge + " -j DROP",
		"filter -A DOCKER-ISOLATION-STAGE-2 -j RETURN", "filter -A DOCKER-USER -j RETURN", "filter -A DOCKER -o " + bridge + " -j ACCEPT",
	} {
		s.run(t, "iptables -t "+rule)
	}
}

// plainPair returns two namespaces behind a host of the first subnet each, connected by hand, and the address of the second.
func plainPair(t testing.TB, l *lab) (a, b sandbox, address netip.Addr) {
	t.Helper()
	var behind [2]sandbox
	for i := range behind {
		self, other := strconv.Itoa(i+1), strconv.Itoa(2-i)
		host := newSandbox(t)
		behind[i] = newSandbox(t)
		l.run(t, "ip link add p"+self+" type veth peer name eth0 netns "+strconv.Itoa(host.process.Process.Pid))
		l.run(t, "ip link set p"+self+" up master lan1")
		host.run(t, "ip link add c0 type veth peer name eth0 netns "+strconv.Itoa(behind[i].process.Process.Pid))
		for _, command := range []string{
			"sysctl -qw net.ipv4.ip_forward=1", "ip addr add 10.9.1.10" + self + "/24 dev eth0", "ip link set eth0 up",
			"ip addr add 10.8." + self + ".1/24 dev c0", "ip link set c0 up", "ip route add 10.8." + other + ".0/24 via 10.9.1.10" + other,
			"iptables -t nat -A POSTROUTING -d 10.8.0.0/16 -j ACCEPT",
		} {
			host.run(t, command)
		}
		host.asDocker(t, "c0", "10.8."+self+".0/24")
		for _, command := range []string{"ip link set lo up", "ip addr add 10.8." + self + ".2/24 dev eth0", "ip link set eth0 up", "ip route add default via 10.8." + self + ".1"} {
			behind[i].run(t, command)
		}
	}
	return behind[0], behind[1], netip.MustParseAddr("10.8.2.2")
}

// discard reads what it is sent on port 9, and closes when the other side does.
func discard(t testing.TB, ns string) {
	t.Helper()
	var listener net.Listener
	in(t, ns, func() {
		var err error
		listener, err = net.Listen("tcp4", ":9")
		check(t, err)
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			go func() {
				defer conn.Close()
				io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
			}()
		}
	}()
}

func transfer(t testing.TB, from sandbox, to netip.Addr) time.Duration {
	t.Helper()
	conn := dial(t, from.ns, "tcp4", netip.AddrPortFrom(to, 9).String()).(*net.TCPConn)
	defer conn.Close()
	chunk := make([]byte, 256<<10)
	start := time.Now()
	for range benchBytes / len(chunk) {
		_, err := conn.Write(chunk)
		check(t, err)
	}
	check(t, conn.CloseWrite())
	_, err := io.Copy(io.Discard, conn) // until everything was read over there
	check(t, err)
	return time.Since(start)
}

func connect(t testing.TB, from sandbox, to netip.Addr) (took time.Duration) {
	t.Helper()
	in(t, from.ns, func() {
		start := time.Now()
		for range benchConns {
			conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
			check(t, err)
			check(t, conn.SetLinger(0)) // no port is left waiting
			conn.Close()
		}
		took = time.Since(start)
	})
	return took
}
