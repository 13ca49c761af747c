package podnet

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"regexp"
	"testing"

	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestSyncRepairs(t *testing.T) {
	dropping(t)
	n := open(t, "repair")
	port := HostPort{HostPort: 8080, Port: 80}
	web, address := plug(t, n, "web", port)
	client, _ := plug(t, n, "client")
	serve(t, web.ns, ":80")
	wanted := []Port{{Key: "web", HostPorts: []HostPort{port}}, {Key: "client"}}

	for _, tc := range []struct{ name, damage string }{
		{"table removed", "nft delete table ip " + n.Name()},
		{"chain flushed", "nft flush chain ip " + n.Name() + " prerouting"},
		{"host ports flushed", "nft flush map ip " + n.Name() + " " + anyPorts},
		{"Docker's chain wiped", "iptables -F DOCKER-USER"},
		{"gateway down", "ip link set " + n.Name() + " down"},
		{"gateway without an address", "ip addr flush dev " + n.Name()},
		{"gateway removed", "ip link del " + n.Name()},
		{"port down", "ip link set " + n.names.port("web") + " down"},
		{"routes flushed", "ip route flush proto 109"},
		{"everything flushed", "nft flush ruleset"}, // Docker's too, so it goes last
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, tc.damage)
			check(t, n.Sync(t.Context(), wanted))
			if got := ask(t, client.ns, address.String()+":80"); got == "" {
				t.Error("the Pod cannot be reached from another")
			}
			if got := ask(t, "", "127.0.0.1:8080"); got == "" {
				t.Error("the host port does not answer")
			}
		})
	}
}

func TestSyncDropsHostPortsOfTheGone(t *testing.T) {
	n := open(t, "stale")
	port := HostPort{HostPort: 8080, Port: 80}
	dying, _ := plug(t, n, "one", port)
	dying.kill()
	awaitLink(t, n, "one")
	check(t, n.Sync(t.Context(), nil))
	plug(t, n, "two", port)
}

// TestOthersRulesStay asserts P12 for rules and links: everything else is the same before, during and after.
func TestOthersRulesStay(t *testing.T) {
	testhost.Local(t)
	before := foreign(t)
	n := open(t, "polite")
	other := openIn(t, "other cluster", netip.MustParsePrefix("10.244.8.0/24"))
	_, kept := plug(t, other, "theirs", HostPort{HostPort: 9090, Port: 80})
	plug(t, n, "ours", HostPort{HostPort: 8080, Port: 80})
	check(t, n.Cleanup(t.Context()))
	if ports, _ := other.Ports(); ports["theirs"] != kept {
		t.Error("Cleanup took the port of another cluster")
	}
	check(t, other.Cleanup(t.Context()))
	if after := foreign(t); after != before {
		t.Errorf("rules and links before:\n%s\nafter:\n%s", before, after)
	}
}

// Two clusters with one range would take each other's traffic, so the second waits for a range of its own.
func TestARangeThatOthersHoldIsRefused(t *testing.T) {
	first := open(t, "first")
	_, kept := plug(t, first, "theirs")
	second, err := Open(Config{Cluster: "second", Pods: netip.MustParsePrefix("10.244.7.128/25")})
	check(t, err)
	t.Cleanup(func() {
		check(t, second.Cleanup(context.Background()))
		second.Close()
	})
	before := foreign(t)
	s := newSandbox(t)
	port := Port{Key: "ours", NetNS: s.ns}
	_, plugged := second.Plug(t.Context(), port)
	for doing, err := range map[string]error{"Plug": plugged, "Sync": second.Sync(t.Context(), nil)} {
		overlap := new(OverlapError)
		if !errors.As(err, &overlap) || overlap.Interface != first.Name() || overlap.Prefix != netip.PrefixFrom(gateway(podRange), podRange.Bits()) {
			t.Errorf("%s: %v, want an overlap with %s", doing, err, first.Name())
		}
	}
	if after := foreign(t); after != before {
		t.Errorf("rules and links before:\n%s\nafter:\n%s", before, after)
	}
	run(t, "ip link add late type veth peer name later")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "late").Run() })
	run(t, "ip addr add 10.244.7.200/32 dev late")
	again, err := Open(Config{Cluster: "first", Pods: podRange}) // as after a restart
	check(t, err)
	defer again.Close()
	check(t, again.Sync(t.Context(), nil))
	if ports, err := again.Ports(); err != nil || ports["theirs"] != kept {
		t.Errorf("ports = %v, %v, want %s as before", ports, err, kept)
	}
	run(t, "ip link del late")
	check(t, first.Cleanup(t.Context()))
	if _, err := second.Plug(t.Context(), port); err != nil {
		t.Errorf("the range is free, and yet: %v", err)
	}
}

// foreign is every rule and link of the host.
func foreign(t *testing.T) string {
	t.Helper()
	rules, err := exec.Command("nft", "-s", "list", "ruleset").Output()
	check(t, err)
	links, err := exec.Command("ip", "-br", "link").Output()
	check(t, err)
	return string(rules) + configured(string(links))
}

// carrier is what a list of links says of the other end, which the kernel notices in its own time.
var carrier = regexp.MustCompile(`(?m)^(\S+ +)(UP|DOWN|UNKNOWN|LOWERLAYERDOWN) |NO-CARRIER,|,LOWER_UP`)

// configured is a list of links as somebody set them, not as they are at the moment.
func configured(links string) string { return carrier.ReplaceAllString(links, "$1") }
