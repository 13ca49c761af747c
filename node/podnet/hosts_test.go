package podnet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestPodsAcrossHosts(t *testing.T) {
	l, a, b, c := threeHosts(t)
	podA, ipA := a.plug(t, "a")
	podB, ipB := b.plug(t, "b")
	podC, ipC := c.plug(t, "c")
	for _, ns := range []string{podA.ns, podB.ns, podC.ns, a.ns, b.ns, c.ns, l.ns} {
		serve(t, ns, ":80")
	}
	addressA, addressB, addressC := a.self.Address.String(), b.self.Address.String(), c.self.Address.String()
	for name, tc := range map[string]struct {
		from, to, want string // want is the source the server sees
	}{
		"Pod to Pod, direct":              {podA.ns, ipB.String(), ipA.String()},
		"Pod to Pod, through the tunnel":  {podA.ns, ipC.String(), ipA.String()},
		"and back":                        {podC.ns, ipB.String(), ipC.String()},
		"node to Pod, direct":             {a.ns, ipB.String(), addressA},
		"node to Pod, through the tunnel": {a.ns, ipC.String(), gateway(a.self.Pods).String()},
		"Pod to node of the subnet":       {podA.ns, addressB, ipA.String()},
		"Pod to node of another subnet":   {podA.ns, addressC, addressA},
		"Pod to its own node":             {podA.ns, addressA, ipA.String()},
		"Pod to Pod's gateway elsewhere":  {podA.ns, gateway(c.self.Pods).String(), ipA.String()},
		"Pod outwards":                    {podA.ns, "10.9.1.254", addressA},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, tc.from, tc.to+":80"); got != tc.want {
				t.Errorf("the server sees %q, want %q", got, tc.want)
			}
		})
	}
}

// A new agent that knows no peers yet leaves routes as they are; one that does corrects them.
func TestPeersComeMoveAndGo(t *testing.T) {
	_, a, b, c := threeHosts(t)
	podA, _ := a.plug(t, "a")
	podB, ipB := b.plug(t, "b")
	podC, ipC := c.plug(t, "c")
	serve(t, podB.ns, ":80")
	serve(t, podC.ns, ":80")
	reach := func(when string, address netip.Addr, want bool) {
		t.Helper()
		limit := silence
		if want {
			limit = dialTimeout
		}
		if got := askWithin(t, limit, podA.ns, address.String()+":80") != ""; got != want {
			t.Errorf("%s: %s is reached: %t, want %t\n%s", when, address, got, want, a.run(t, "ip route"))
		}
	}
	a.open(t)
	reach("new agent", ipB, true)
	reach("new agent", ipC, true)

	check(t, a.setPeers(a, b))
	reach("c gone", ipC, false)
	if out, err := a.try("ip link show " + a.names.tunnel); err == nil {
		t.Errorf("nobody is behind the tunnel, and yet:\n%s", out)
	}
	check(t, a.setPeers(a, c))
	reach("b gone", ipB, false)
	reach("c back", ipC, true)

	c.run(t, "ip addr del 10.9.2.3/24 dev eth0")
	c.run(t, "ip addr add 10.9.2.77/24 dev eth0")
	c.run(t, "ip route replace default via 10.9.2.254")
	c.self.Address = netip.MustParseAddr("10.9.2.77")
	check(t, a.setPeers(a, b, c))
	check(t, c.setPeers(a, b, c))
	reach("c moved", ipC, true)
	reach("b back", ipB, true)
	if entries := a.run(t, "bridge fdb show dev "+a.names.tunnel); strings.Contains(entries, "10.9.2.3") || strings.Count(entries, "\n") != 1 {
		t.Errorf("the tunnel still leads to where c was:\n%s", entries)
	}
}

func TestPeerGetsAnotherRange(t *testing.T) {
	_, a, b, c := threeHosts(t)
	moved := c.self
	moved.Pods = netip.MustParsePrefix("10.244.9.0/24")
	in(t, a.ns, func() { check(t, a.SetPeers(t.Context(), []Peer{a.self, b.self, moved})) })
	if routes := a.run(t, "ip route show proto 109"); strings.Contains(routes, "10.244.3.") || !strings.Contains(routes, "10.244.9.0/24") {
		t.Errorf("c has another range:\n%s", routes)
	}
}

// What others have, a route or a link, is not taken from them; other peers are reached meanwhile, and what is there stays.
func TestPeersRangeThatTheHostNeeds(t *testing.T) {
	_, a, b, c := threeHosts(t)
	podA, _ := a.plug(t, "a")
	podB, ipB := b.plug(t, "b")
	podC, ipC := c.plug(t, "c")
	serve(t, podB.ns, ":80")
	serve(t, podC.ns, ":80")
	check(t, a.setPeers(a))
	a.run(t, "ip route add 10.244.3.128/25 via 10.9.1.254")
	err := a.setPeers(a, b, c)
	overlap := new(OverlapError)
	if !errors.As(err, &overlap) || *overlap != (OverlapError{
		Node: "n3", Pods: c.self.Pods, Interface: "eth0", Prefix: netip.MustParsePrefix("10.244.3.128/25"),
	}) {
		t.Errorf("SetPeers: %v, want an overlap", err)
	}
	if ask(t, podA.ns, ipB.String()+":80") == "" {
		t.Error("the other peer is not reached")
	}
	a.run(t, "ip route del 10.244.3.128/25")
	check(t, a.sync())
	if ask(t, podA.ns, ipC.String()+":80") == "" {
		t.Error("the range is free, and yet the peer is not reached")
	}
	a.run(t, "ip route add 10.244.3.128/25 via 10.9.1.254")
	if err := a.sync(); !errors.As(err, &overlap) {
		t.Errorf("Sync: %v, want an overlap", err)
	}
	if ask(t, podA.ns, ipC.String()+":80") == "" {
		t.Error("what came later cut off what was there")
	}
}

func TestSyncRepairsPathsToPeers(t *testing.T) {
	_, a, b, c := threeHosts(t)
	podA, _ := a.plug(t, "a")
	podB, ipB := b.plug(t, "b")
	podC, ipC := c.plug(t, "c")
	serve(t, podB.ns, ":80")
	serve(t, podC.ns, ":80")
	tunnel := a.names.tunnel
	for name, damage := range map[string]string{
		"routes flushed":     "ip route flush proto 109",
		"one route":          "ip route del " + b.self.Pods.String(),
		"tunnel removed":     "ip link del " + tunnel,
		"tunnel down":        "ip link set " + tunnel + " down",
		"tunnel's address":   "ip addr flush dev " + tunnel,
		"hardware address":   "ip link set " + tunnel + " address 02:00:00:00:00:01",
		"neighbours flushed": "ip neigh flush nud permanent dev " + tunnel,
		"node forgotten":     "bridge fdb del " + hardwareAddress(c.self.Address).String() + " dev " + tunnel + " dst " + c.self.Address.String(),
		"node elsewhere":     "bridge fdb replace " + hardwareAddress(c.self.Address).String() + " dev " + tunnel + " dst 10.9.2.200 self permanent",
		"rules flushed":      "nft flush ruleset",
	} {
		t.Run(name, func(t *testing.T) {
			a.run(t, damage)
			check(t, a.sync())
			for _, ip := range []netip.Addr{ipB, ipC} {
				if ask(t, podA.ns, ip.String()+":80") == "" {
					t.Errorf("%s is not reached\n%s", ip, a.run(t, "ip route"))
				}
			}
			if got := a.run(t, "nft list set ip "+a.Name()+" "+nodes); !strings.Contains(got, b.self.Address.String()) {
				t.Errorf("Pods would be masqueraded on their way to a node of the subnet:\n%s", got)
			}
		})
	}
}
