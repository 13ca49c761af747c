package policy

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/api/netpolicy"
	"github.com/mainstay-cluster/mainstay/api/netpolicy/suite"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

const node = "n1"

// newEnforcer makes one whose table goes with the test.
func newEnforcer(t testing.TB) *Enforcer {
	t.Helper()
	e := newUnknowing()
	t.Cleanup(func() { check(t, e.Cleanup(context.Background())) })
	return e
}

// networkOf is what a server tells the only node of a cluster.
func networkOf(t *testing.T, c suite.Cluster) *link.Network {
	t.Helper()
	var objects []object.Object
	for _, ns := range c.Namespaces {
		objects = append(objects, ns)
	}
	for _, pod := range c.Pods {
		objects = append(objects, pod)
	}
	view := statetest.New(t, objects...).View()
	n := link.NewNetwork()
	n.Peers[node] = link.Peer{Name: node, PodCIDR: suite.Range, Address: "192.0.2.1"}
	for _, p := range c.Policies {
		resolved := netpolicy.Resolve(view, p)
		n.Policies[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = &resolved
	}
	return n
}

// TestSuite runs Kubernetes' suite with real packets: each case as a change of the one before, back again, and from nothing
// each, as after a restart of the agent.
func TestSuite(t *testing.T) {
	h, cases := newHost(t), suite.Cases()
	e := newEnforcer(t)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { h.enforced(t, e, c, link.NetworkChange{Policies: true}) })
	}
	slices.Reverse(cases)
	for _, c := range cases {
		t.Run("back to "+c.Name, func(t *testing.T) { h.enforced(t, e, c, link.NetworkChange{Policies: true}) })
	}
	for _, c := range cases {
		t.Run("at once "+c.Name, func(t *testing.T) { h.enforced(t, newEnforcer(t), c, link.NetworkChange{Whole: true}) })
	}
}

func (h *host) enforced(t *testing.T, e *Enforcer, c suite.Cluster, changed link.NetworkChange) {
	t.Helper()
	check(t, e.Apply(t.Context(), networkOf(t, c), changed))
	var wanted, unwanted []suite.Probe
	for p := range c.Probes() {
		if c.Allowed(p) {
			wanted = append(wanted, p)
		} else {
			unwanted = append(unwanted, p)
		}
	}
	h.judge(t, wanted, unwanted)
}

func caseNamed(t *testing.T, name string) suite.Cluster {
	t.Helper()
	all := suite.Cases()
	i := slices.IndexFunc(all, func(c suite.Cluster) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no case %q", name)
	}
	return all[i]
}

// nodePod stands for the node itself in probes.
func nodePod() *corev1.Pod {
	pod := &corev1.Pod{Status: corev1.PodStatus{PodIP: gateway.String()}}
	pod.Namespace, pod.Name = "the", "node"
	return pod
}

// With everything denied, the node reaches its Pods, they ask it for names, and that is all.
func TestNodeAndItsPods(t *testing.T) {
	h, c := newHost(t), caseNamed(t, "should support a 'default-deny-all' policy")
	check(t, newEnforcer(t).Apply(t.Context(), networkOf(t, c), link.NetworkChange{Whole: true}))
	pod, free, host := c.Pods[0], c.Pods[3], nodePod()
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	h.judge(t, []suite.Probe{
		{From: host, To: pod, Protocol: tcp, Port: 80}, {From: host, To: pod, Protocol: udp, Port: 81},
		{From: pod, To: host, Protocol: tcp, Port: 53}, {From: pod, To: host, Protocol: udp, Port: 53},
		{From: free, To: host, Protocol: tcp, Port: 80},
	}, []suite.Probe{{From: pod, To: host, Protocol: tcp, Port: 80}, {From: pod, To: host, Protocol: udp, Port: 81}})
}

// A Service's address is judged by the endpoint that it leads to; a Pod that is led to itself always arrives.
func TestServices(t *testing.T) {
	h, c := newHost(t), caseNamed(t, "should enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and NamespaceSelector")
	c.Policies = append(c.Policies, caseNamed(t, "should support a 'default-deny-ingress' policy").Policies...)
	check(t, newEnforcer(t).Apply(t.Context(), networkOf(t, c), link.NetworkChange{Whole: true}))
	run(t, "nft add table ip np-services")
	t.Cleanup(func() { run(t, "nft delete table ip np-services") })
	run(t, "nft add chain ip np-services pre { type nat hook prerouting priority dstnat ; }")
	run(t, "nft add chain ip np-services post { type nat hook postrouting priority srcnat ; }")
	a, itsPeer, another := c.Pods[0], c.Pods[3], c.Pods[4]
	for ip, pod := range map[string]*corev1.Pod{"10.96.0.1": a, "10.96.0.2": itsPeer, "10.96.0.3": another} {
		run(t, "nft add rule ip np-services pre ip daddr "+ip+" dnat to "+pod.Status.PodIP)
	}
	run(t, "nft add rule ip np-services post ip saddr "+a.Status.PodIP+" ip daddr "+a.Status.PodIP+" masquerade")
	at := func(ip string) netip.AddrPort { return netip.MustParseAddrPort(ip + ":80") }
	denied := h.send(t, corev1.ProtocolTCP, a.Status.PodIP, at("10.96.0.3"))
	got := map[netip.AddrPort]bool{}
	h.await(t, h.send(t, corev1.ProtocolTCP, a.Status.PodIP, at("10.96.0.2")), got, "a Service of an allowed Pod")
	h.await(t, h.send(t, corev1.ProtocolTCP, a.Status.PodIP, at("10.96.0.1")), got, "a Pod's own Service")
	if h.arrived(t, denied, got) {
		t.Error("a Service of a Pod that the policy does not allow was reached")
	}
}

// A connection that stands stays when a policy comes that would not let it begin, as in Kubernetes.
func TestConnectionsOutliveAChange(t *testing.T) {
	h, open := newHost(t), caseNamed(t, "no policy")
	e := newEnforcer(t)
	run(t, "nft add table ip np-services")
	t.Cleanup(func() { run(t, "nft delete table ip np-services") })
	// The kernel tracks connections only where a rule wants it to: on a node, those of the Pod network do.
	run(t, "nft add chain ip np-services post { type nat hook postrouting priority srcnat ; }")
	run(t, "nft add rule ip np-services post ip saddr 192.0.2.0/24 masquerade")
	check(t, e.Apply(t.Context(), networkOf(t, open), link.NetworkChange{Whole: true}))
	from, to := open.Pods[3].Status.PodIP, target(suite.Probe{To: open.Pods[0], Port: 80})
	client := h.send(t, corev1.ProtocolTCP, from, to)
	h.await(t, client, nil, "a connection without any policy")
	server := h.accept(t, to)
	deny := caseNamed(t, "should support a 'default-deny-all' policy")
	check(t, e.Apply(t.Context(), networkOf(t, deny), link.NetworkChange{Policies: true}))
	refused := h.send(t, corev1.ProtocolTCP, from, to)
	h.exchange(t, client.fd, server)
	h.exchange(t, server, client.fd)
	if h.arrived(t, refused, nil) {
		t.Error("a new connection gets through")
	}
}

func TestApplyRepairs(t *testing.T) {
	h, c := newHost(t), caseNamed(t, "three policies over all namespaces")
	e := newEnforcer(t)
	check(t, e.Apply(t.Context(), networkOf(t, c), link.NetworkChange{Whole: true}))
	for name, damage := range map[string]string{
		"everything flushed": "nft flush ruleset", "table removed": "nft delete table ip TABLE",
		"chain flushed": "nft flush chain ip TABLE ingress", "map flushed": "nft flush map ip TABLE egress",
	} {
		t.Run(name, func(t *testing.T) {
			run(t, strings.ReplaceAll(damage, "TABLE", e.Table()))
			h.enforced(t, e, c, link.NetworkChange{})
		})
	}
}

// TestOthersRulesStay asserts P12, and that there is no table when there is nothing to enforce.
func TestOthersRulesStay(t *testing.T) {
	run(t, "nft add table ip np-theirs")
	t.Cleanup(func() { run(t, "nft delete table ip np-theirs") })
	run(t, "nft add chain ip np-theirs forward { type filter hook forward priority filter ; }")
	before := everyRule(t)
	e := newEnforcer(t)
	free, restricted := networkOf(t, caseNamed(t, "no policy")), networkOf(t, caseNamed(t, "three policies over all namespaces"))
	for _, end := range []func() error{
		func() error { return e.Apply(t.Context(), free, link.NetworkChange{Policies: true}) },
		func() error { return e.Cleanup(t.Context()) },
		func() error { return e.Cleanup(t.Context()) },
	} {
		check(t, e.Apply(t.Context(), restricted, link.NetworkChange{Whole: true}))
		if during := everyRule(t); during == before {
			t.Fatal("nothing is enforced")
		}
		check(t, end())
		if after := everyRule(t); after != before {
			t.Errorf("rules before:\n%s\nafter:\n%s", before, after)
		}
	}
}

func everyRule(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "-s", "list", "ruleset").Output()
	check(t, err)
	return string(out)
}

// Whatever is done to the table while packets come that no policy, old or new, lets through, none of them gets through: not when
// an agent starts, which knows nothing of the table that stands and makes it anew, and not when a Pod comes under other policies.
func TestNoPacketSlipsThroughAChange(t *testing.T) {
	deny := caseNamed(t, "should support a 'default-deny-ingress' policy")
	n := networkOf(t, deny)
	from, free := deny.Pods[3].Status.PodIP, target(suite.Probe{To: deny.Pods[4], Port: 80})
	denied := target(suite.Probe{To: deny.Pods[0], Port: 80})
	const times = 50
	for name, change := range map[string]func(e *Enforcer, i int) error{
		"made anew":      func(_ *Enforcer, _ int) error { return writeLong(newUnknowing(), n) },
		"other policies": func(e *Enforcer, i int) error { return writeLong(e, repeated(n, i%2+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			h, e, done := newHost(t), newEnforcer(t), make(chan error)
			check(t, writeLong(e, n))
			go func() {
				var err error
				for i := 0; i < times && err == nil; i++ {
					err = change(e, i)
				}
				done <- err
			}()
			sent, err := h.flood(t, from, denied, done)
			check(t, err)
			got := map[netip.AddrPort]bool{}
			h.await(t, h.send(t, corev1.ProtocolUDP, from, free), map[netip.AddrPort]bool{}, "what no policy restricts")
			if h.collect(h.udp[denied], got); len(got) > 0 || sent < 100*times {
				t.Errorf("%d of %d packets got through during %d changes", len(got), sent, times)
			}
		})
	}
}

// newUnknowing is the Enforcer of an agent that has just started.
func newUnknowing() *Enforcer {
	return New(Config{Cluster: "test", Node: node, Log: slog.New(slog.DiscardHandler)})
}

// writeLong enforces n by chains in which a packet takes long on its way to where it is judged, so that many packets are on it
// whenever the table changes.
func writeLong(e *Enforcer, n *link.Network) error {
	want := e.render(n)
	for _, base := range []string{egress, ingress, input} {
		long := want.chains[base]
		long.rules = slices.Concat(slices.Repeat([]string{"meta mark 0x12345678 drop"}, 500), long.rules)
		want.chains[base] = long
	}
	return e.write(context.Background(), want)
}

// repeated is n with every policy so many times, under other names.
func repeated(n *link.Network, times int) *link.Network {
	out := *n
	out.Policies = map[types.NamespacedName]*link.Policy{}
	for i := range times {
		for key, p := range n.Policies {
			key.Name += strconv.Itoa(i)
			copied := *p
			copied.Name = key.Name
			out.Policies[key] = &copied
		}
	}
	return &out
}
