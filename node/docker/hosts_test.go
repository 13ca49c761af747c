package docker

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/testhost"
)

// node is a runtime on a host of its own, whose engine drops what it does not know.
type node struct {
	fixture
	self podnet.Peer
}

// on runs fn on the host: in its network namespace.
func (n *node) on(t *testing.T, fn func()) {
	t.Helper()
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	own, err := netns.Get()
	check(t, err)
	defer own.Close()
	host, err := netns.GetFromPath(n.host.NetNS)
	check(t, err)
	defer host.Close()
	check(t, netns.Set(host))
	defer func() { check(t, netns.Set(own)) }()
	fn()
}

func newNode(t *testing.T, network *testhost.Network, name, pods string) *node {
	t.Helper()
	n := &node{fixture: fixture{host: network.BareHost(t)}}
	n.host.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	n.host.StartEngine(t)
	n.host.BusyboxImage(t, busybox)
	if rules := n.host.Run(t, "iptables", "-S", "FORWARD"); !strings.Contains(rules, "-P FORWARD DROP") {
		t.Fatalf("the engine's firewall is not what this test is about:\n%s", rules)
	}
	n.self = podnet.Peer{Name: name, Pods: netip.MustParsePrefix(pods), Address: n.host.IP}
	n.on(t, func() {
		var err error
		n.Runtime, err = New(Config{
			Cluster: cluster, Host: n.host.DockerHost(), DataDir: filepath.Join(n.host.Dir, "mainstay"), NodeIP: n.host.IP,
			Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
		check(t, err)
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		n.on(t, func() { check(t, n.Cleanup(ctx)) })
		n.Close()
	})
	return n
}

// TestPodsOfTwoEnginesReachEachOther also has peers known before the range is, as an agent may hear of them.
func TestPodsOfTwoEnginesReachEachOther(t *testing.T) {
	network := testhost.NewNetwork(t)
	a, b := newNode(t, network, "a", "10.244.1.0/24"), newNode(t, network, "b", "10.244.2.0/24")
	server := pod("server", "nc", "-ll", "-p", "80", "-e", "/bin/echo", "hello")
	client := pod("client", "sleep", "600")
	var address netip.Addr
	var id string
	for _, n := range []*node{a, b} {
		n.on(t, func() {
			check(t, n.SetPeers(t.Context(), []podnet.Peer{a.self, b.self}))
			check(t, n.Configure(t.Context(), runtime.Network{PodCIDR: n.self.Pods, ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16")}))
		})
	}
	a.on(t, func() { id = a.run(t, client).ID })
	b.on(t, func() {
		b.run(t, server)
		address = b.look(t, b.Runtime, server).Sandbox.IP
	})
	for deadline := time.Now().Add(60 * time.Second); ; {
		code, output, err := a.Exec(t.Context(), id, []string{"nc", "-w", "2", address.String(), "80"})
		if err == nil && code == 0 && strings.Contains(string(output), "hello") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %d, %v, %s\n%s", address, code, err, output, a.host.Run(t, "ip", "route"))
		}
	}
}
