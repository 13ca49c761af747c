package podnet

import (
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// dropForwarded makes a host's firewall as a Docker Engine does.
func (m *machine) dropForwarded(t *testing.T) {
	t.Helper()
	for _, command := range []string{"iptables -N DOCKER-USER", "iptables -A DOCKER-USER -j RETURN", "iptables -A FORWARD -j DOCKER-USER", "iptables -P FORWARD DROP"} {
		m.run(t, command)
	}
	check(t, m.sync())
}

// A host leads connections to a Service on to Pods of other hosts, in and out by one link, where nothing else is forwarded. What
// node/proxy would do is done by a table of the test's own.
func TestServicesAreForwardedToOtherHosts(t *testing.T) {
	l, a, b, c := threeHosts(t)
	podA, ipA := a.plug(t, "a")
	podB, ipB := b.plug(t, "b")
	podC, ipC := c.plug(t, "c")
	for _, s := range []sandbox{podB, podC} {
		serve(t, s.ns, ":80")
	}
	for _, m := range []*machine{a, b, c} {
		m.dropForwarded(t)
	}
	for _, command := range []string{
		"add table ip service",
		"add chain ip service in { type nat hook prerouting priority dstnat ; }",
		"add chain ip service out { type nat hook postrouting priority srcnat ; }",
		"add rule ip service in tcp dport 30001 ct mark set ct mark or 0x4000 dnat to " + ipB.String() + ":80",
		"add rule ip service in tcp dport 30002 ct mark set ct mark or 0x4000 dnat to " + ipC.String() + ":80",
		"add rule ip service in tcp dport 30003 dnat to " + ipB.String() + ":80",
		"add rule ip service out ct mark and 0x4000 == 0x4000 iifname eth0 masquerade",
	} {
		a.run(t, "nft "+command)
	}
	node := a.self.Address.String()
	for name, tc := range map[string]struct{ from, to, want string }{
		"from outside to a Pod of the subnet":       {l.ns, node + ":30001", node},
		"from outside to a Pod behind the tunnel":   {l.ns, node + ":30002", gateway(a.self.Pods).String()},
		"not translated by a Service":               {l.ns, node + ":30003", ""},
		"from a Pod to a Pod of the subnet":         {podA.ns, node + ":30001", ipA.String()},
		"from a Pod to a Pod behind the tunnel":     {podA.ns, node + ":30002", ipA.String()},
		"without a Service, between Pods":           {podA.ns, ipB.String() + ":80", ipA.String()},
		"without a Service, from another node":      {b.ns, ipC.String() + ":80", gateway(b.self.Pods).String()},
		"without a Service, through the other host": {l.ns, "10.9.1.2:30001", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := askWithin(t, patience(tc.want), tc.from, tc.to); got != tc.want {
				t.Errorf("the server sees %q, want %q", got, tc.want)
			}
		})
	}
}

// A client that never stops sending from one port reaches whichever Pod has the host port, also after a time in which none had.
func TestDatagramsToAHostPortFollowIt(t *testing.T) {
	l := newLab(t)
	a := l.host(t, 1)
	port := HostPort{HostPort: 5300, Port: 53, Protocol: corev1.ProtocolUDP}
	conn := dial(t, l.ns, "udp4", netip.AddrPortFrom(a.self.Address, port.HostPort).String())
	answer := func(want string) string { return askByDatagram(t, patience(want), conn) }
	if got := answer(""); got != "" {
		t.Errorf("%q answers before anybody is there", got)
	}
	for name, leaves := range map[string]func(sandbox){
		"unplugged": func(sandbox) { check(t, a.Unplug(t.Context(), "unplugged")) },
		"dies": func(s sandbox) {
			s.kill()
			awaitLink(t, a.Network, "dies")
			check(t, a.Network.Sync(t.Context(), nil))
		},
		"stays": func(sandbox) {},
	} {
		in(t, a.ns, func() { check(t, a.Unplug(t.Context(), "stays")) })
		s := newSandbox(t)
		server := nameServer(t, s, name)
		in(t, a.ns, func() {
			_, err := a.Plug(t.Context(), Port{Key: name, NetNS: s.ns, HostPorts: []HostPort{port}})
			check(t, err)
		})
		if got := answer(name); got != name {
			t.Errorf("%q answers, want %s", got, name)
		}
		if name != "stays" {
			server.Close() // a socket would keep the namespace alive
		}
		in(t, a.ns, func() { leaves(s) })
		if got := answer(""); got != "" && name != "stays" {
			t.Errorf("%q answers after it has gone", got)
		}
	}
}

// askByDatagram returns the answer; "" if nobody listens.
func askByDatagram(t *testing.T, patience time.Duration, conn net.Conn) string {
	t.Helper()
	buffer := make([]byte, 100)
	conn.Write([]byte("?"))
	conn.SetReadDeadline(time.Now().Add(patience))
	n, err := conn.Read(buffer)
	t.Logf("read: %v", err)
	return string(buffer[:n])
}

// nameServer answers datagrams to port 53 with a name.
func nameServer(t *testing.T, s sandbox, name string) net.PacketConn {
	t.Helper()
	var packets net.PacketConn
	in(t, s.ns, func() {
		var err error
		packets, err = net.ListenPacket("udp4", ":53")
		check(t, err)
	})
	t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 100)
		for _, from, err := packets.ReadFrom(buffer); err == nil; _, from, err = packets.ReadFrom(buffer) {
			packets.WriteTo([]byte(name), from)
		}
	}()
	return packets
}
