package podnet

import (
	"os"
	"strings"
	"testing"
)

// TestHostIsLeftAsItWas has others' things of every kind on the host.
func TestHostIsLeftAsItWas(t *testing.T) {
	l := newLab(t)
	a, c := l.host(t, 1), l.host(t, 2)
	in(t, a.ns, func() { check(t, a.Cleanup(t.Context())) })
	for _, theirs := range []string{
		"sysctl -qw net.ipv4.ip_forward=0", "ip link add theirs type vxlan id 7 dstport 8472", "ip link set theirs up",
		"ip route add 192.0.2.0/24 via 10.9.1.254 proto 109", "ip neigh add 10.9.1.99 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
		"bridge fdb append 02:00:00:00:00:09 dev theirs dst 10.9.1.99", "nft add table ip theirs", "iptables -N DOCKER-USER",
		"iptables -A DOCKER-USER -s 192.0.2.1 -j DROP",
	} {
		a.run(t, theirs)
	}
	before := a.everything(t)
	a.open(t)
	a.plug(t, "a", HostPort{HostPort: 8080, Port: 80})
	check(t, a.setPeers(a, c))
	check(t, a.sync())
	if a.everything(t) == before {
		t.Fatal("nothing was made")
	}
	in(t, a.ns, func() { // by an agent that knows no more than the cluster's id
		fresh, err := Open(Config{Cluster: "lab"})
		check(t, err)
		defer fresh.Close()
		check(t, fresh.Cleanup(t.Context()))
	})
	if after := a.everything(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// everything is all that a network could change on a host.
func (m *machine) everything(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{
		"ip -br link", "ip -br addr show scope global", "ip -d route show table all type unicast", "ip -d route show type unreachable",
		"ip neigh show nud permanent", "bridge fdb show", "ip rule", "nft -s list ruleset", "iptables -S",
	} {
		all.WriteString(configured(m.run(t, command)))
	}
	in(t, m.ns, func() {
		for _, name := range []string{"ip_forward", "conf/all/route_localnet", "conf/eth0/route_localnet", "conf/all/rp_filter", "conf/all/send_redirects", "conf/eth0/accept_redirects"} {
			value, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
			check(t, err)
			all.WriteString(name + "=" + string(value))
		}
	})
	return all.String()
}

// A host that drops nothing is given no rules against that.
func TestNoRulesWhereDockerHasNone(t *testing.T) {
	_, a, _, _ := threeHosts(t)
	a.plug(t, "a")
	check(t, a.sync())
	if got, want := a.run(t, "nft list tables"), "table ip "+a.Name()+"\n"; got != want {
		t.Errorf("tables:\n%s\nwant only:\n%s", got, want)
	}
}
