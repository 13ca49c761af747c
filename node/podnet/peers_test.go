package podnet

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const eth0, eth1, tun0 = 2, 3, 4

// around is a host on two subnets, one within the other, and with a VPN.
var around = host{
	addresses: []holding{
		{link: eth0, name: "eth0", prefix: netip.MustParsePrefix("10.9.0.1/16"), direct: true},
		{link: eth1, name: "eth1", prefix: netip.MustParsePrefix("10.9.7.1/24"), direct: true},
		{link: tun0, name: "tun0", prefix: netip.MustParsePrefix("10.8.0.1/24")},
	},
	routes: []holding{
		{link: tun0, name: "tun0", prefix: netip.MustParsePrefix("10.244.66.0/25")},
		{link: tun0, name: "tun0", prefix: netip.MustParsePrefix("10.0.0.0/8")},
	},
}

func peer(name, pods, address string) Peer {
	return Peer{Name: name, Pods: netip.MustParsePrefix(pods), Address: netip.MustParseAddr(address)}
}

func TestPlanChoosesThePathByPeer(t *testing.T) {
	self := peer("self", "10.244.1.0/24", "10.9.0.1")
	for name, tc := range map[string]struct {
		peer Peer
		want int // the link it is a neighbour on; 0 is the tunnel
	}{
		"neighbour":                 {peer("n", "10.244.2.0/24", "10.9.200.2"), eth0},
		"of the narrower subnet":    {peer("n", "10.244.2.0/24", "10.9.7.2"), eth1},
		"elsewhere":                 {peer("n", "10.244.2.0/24", "192.0.2.1"), 0},
		"at the other end of a VPN": {peer("n", "10.244.2.0/24", "10.8.0.2"), 0},
		"IPv6":                      {peer("n", "fd00:2::/64", "2001:db8::2"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan(self.Pods, []Peer{tc.peer, self}, around, nil)
			want := paths{self: self, open: []path{{Peer: tc.peer, link: tc.want}}}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(paths{}, path{}), cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)); diff != "" || err != nil {
				t.Errorf("error %v, paths (-want +got):\n%s", err, diff)
			}
		})
	}
}

func samePrefix(a, b netip.Prefix) bool { return a == b }
func sameAddr(a, b netip.Addr) bool     { return a == b }

func TestPlanKnowsItself(t *testing.T) {
	own := netip.MustParsePrefix("10.244.1.0/24")
	other := peer("other", "10.244.2.0/24", "10.9.0.2")
	for name, peers := range map[string][]Peer{
		"by range":                            {other, peer("self", "10.244.1.0/24", "192.0.2.77")},
		"by address, its range not known yet": {other, {Name: "self", Address: netip.MustParseAddr("10.9.0.1")}},
		"by range rather than by address":     {peer("self", "10.244.1.0/24", "192.0.2.77"), other},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan(own, peers, around, nil)
			if err != nil || got.self.Name != "self" || len(got.open) != 1 || got.open[0].Name != "other" {
				t.Errorf("%+v, %v; want self to be itself and other the one peer", got, err)
			}
		})
	}
}

func TestPlanRefusesOverlaps(t *testing.T) {
	own := netip.MustParsePrefix("10.244.1.0/24")
	for name, tc := range map[string]struct {
		peers []Peer
		open  int
		text  string
		known *OverlapError
	}{
		"an interface's subnet": {[]Peer{peer("n", "10.9.3.0/24", "192.0.2.1")}, 0, "", &OverlapError{"n", netip.MustParsePrefix("10.9.3.0/24"), "eth0", netip.MustParsePrefix("10.9.0.1/16")}},
		"a route into it":       {[]Peer{peer("n", "10.244.66.0/24", "10.9.0.2")}, 0, "", &OverlapError{"n", netip.MustParsePrefix("10.244.66.0/24"), "tun0", netip.MustParsePrefix("10.244.66.0/25")}},
		"a wider route":         {[]Peer{peer("n", "10.244.2.0/24", "10.9.0.2")}, 1, "", nil},
		"this node's own range": {[]Peer{peer("n", "10.244.1.128/25", "10.9.0.2")}, 0, "the Pod range 10.244.1.128/25 of node n overlaps 10.244.1.0/24, this node's own", nil},
		"another peer's": {[]Peer{peer("m", "10.244.2.0/23", "10.9.0.3"), peer("k", "10.244.3.0/24", "10.9.0.2")}, 1,
			"the Pod range 10.244.2.0/23 of node m overlaps 10.244.3.0/24 of node k", nil},
		"no range yet": {[]Peer{{Name: "n", Address: netip.MustParseAddr("10.9.0.2")}}, 0, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan(own, tc.peers, around, nil)
			if len(got.open) != tc.open {
				t.Errorf("open: %+v, want %d", got.open, tc.open)
			}
			if overlap := (*OverlapError)(nil); tc.known != nil && (!errors.As(err, &overlap) || *overlap != *tc.known) {
				t.Errorf("error %v, want %v", err, tc.known)
			}
			if tc.known == nil && (err == nil) != (tc.text == "") || tc.text != "" && err.Error() != tc.text {
				t.Errorf("error %v, want %q", err, tc.text)
			}
		})
	}
}

func TestPlanKeepsWhatIsRouted(t *testing.T) {
	n := peer("n", "10.244.66.0/24", "10.9.0.2")
	got, err := plan(netip.MustParsePrefix("10.244.1.0/24"), []Peer{n}, around, map[netip.Prefix]netlink.Route{n.Pods: {}})
	if err == nil || len(got.open) != 1 {
		t.Errorf("open %+v, error %v; want it both open and complained of", got.open, err)
	}
}

// A node that is reached another way from now on is reached at every moment in between: its route is replaced, not removed and added.
func TestChangedRouteIsNeverAbsent(t *testing.T) {
	_, a, b, c := threeHosts(t)
	ns, err := netns.GetFromPath(a.ns)
	check(t, err)
	defer ns.Close()
	updates, done := make(chan netlink.RouteUpdate, 100), make(chan struct{})
	defer close(done)
	check(t, netlink.RouteSubscribeAt(ns, updates, done))
	moved := b.self
	moved.Address = netip.MustParseAddr("10.9.2.200")
	in(t, a.ns, func() { check(t, a.SetPeers(t.Context(), []Peer{a.self, moved, c.self})) })
	a.run(t, "ip route add 192.0.2.0/24 via 10.9.1.254") // so that there is a last update
	changed := 0
	for u := range updates {
		prefix, _ := prefixOf(u.Dst)
		if prefix == b.self.Pods && u.Type == syscall.RTM_DELROUTE {
			t.Error("the route was removed")
		}
		if prefix == b.self.Pods {
			changed++
		}
		if prefix == netip.MustParsePrefix("192.0.2.0/24") {
			break
		}
	}
	if changed != 1 {
		t.Errorf("the route was changed %d times, want once", changed)
	}
}
