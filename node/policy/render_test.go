package policy

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const tcp, udp = corev1.ProtocolTCP, corev1.ProtocolUDP

func TestRulesOfAPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		rule link.PolicyRule
		want []string
	}{
		"anyone":                     {link.PolicyRule{Anyone: true}, []string{"accept"}},
		"nobody":                     {link.PolicyRule{}, nil},
		"no port":                    {link.PolicyRule{Anyone: true, NoPort: true}, nil},
		"Pods":                       {link.PolicyRule{Addresses: []string{"10.0.0.2"}}, []string{"ip saddr @j-0-peers accept"}},
		"every Pod":                  {link.PolicyRule{EveryPod: true}, []string{"ip saddr @pods accept"}},
		"a block without its parts":  {link.PolicyRule{Blocks: []link.PolicyBlock{{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16", "10.2.0.0/16"}}}}, []string{"ip saddr 10.0.0.0/8 ip saddr != 10.1.0.0/16 ip saddr != 10.2.0.0/16 accept"}},
		"everything":                 {link.PolicyRule{Blocks: []link.PolicyBlock{{CIDR: "0.0.0.0/0"}}}, []string{"accept"}},
		"IPv6":                       {link.PolicyRule{Blocks: []link.PolicyBlock{{CIDR: "::/0"}}}, nil},
		"an exception nobody reads":  {link.PolicyRule{Blocks: []link.PolicyBlock{{CIDR: "10.0.0.0/8", Except: []string{"ten"}}}}, nil},
		"ports that overlap":         {link.PolicyRule{Anyone: true, Ports: []link.PolicyPort{{Protocol: tcp, First: 80, Last: 90}, {Protocol: tcp, First: 85, Last: 95}, {Protocol: udp, First: 53, Last: 53}}}, []string{"tcp dport { 80-95 } accept", "udp dport { 53 } accept"}},
		"a protocol":                 {link.PolicyRule{Anyone: true, Ports: []link.PolicyPort{{Protocol: udp}, {Protocol: udp, First: 53, Last: 53}}}, []string{"meta l4proto udp accept"}},
		"SCTP":                       {link.PolicyRule{Anyone: true, Ports: []link.PolicyPort{{Protocol: corev1.ProtocolSCTP, First: 80, Last: 80}}}, []string{"sctp dport { 80 } accept"}},
		"a protocol that is no word": {link.PolicyRule{Anyone: true, Ports: []link.PolicyPort{{Protocol: "ICMP"}}}, nil},
		"a named port":               {link.PolicyRule{Anyone: true, Ports: []link.PolicyPort{{Protocol: tcp, First: 80, Last: 80, Pods: []string{"10.0.0.2"}}}}, []string{"ip daddr . meta l4proto . th dport @j-0-ports accept"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := part{sets: map[string]*set{}}
			if diff := cmp.Diff(tc.want, p.renderRules(directions[1], "j", []link.PolicyRule{tc.rule})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRangesOfAllPods(t *testing.T) {
	got := podRanges(map[string]link.Peer{
		"a": {PodCIDR: "10.244.0.0/24"}, "b": {PodCIDR: "10.244.1.0/24"}, "its successor": {PodCIDR: "10.244.1.0/24"}, "new": {},
	})
	want := []string{"10.244.0.2-10.244.0.255", "10.244.1.2-10.244.1.255"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// manyPolicies has n policies, each about one of 100 Pods of this node, and each letting in as many addresses as peers says.
func manyPolicies(n, peers int) *link.Network {
	network := link.NewNetwork()
	network.Peers[node] = link.Peer{Name: node, PodCIDR: "10.244.7.0/24"}
	for i := range n {
		name := types.NamespacedName{Namespace: "default", Name: "p" + address(uint32(i))}
		p := &link.Policy{Namespace: name.Namespace, Name: name.Name, Pods: []string{address(10<<24 + 244<<16 + 7<<8 + uint32(2+i%100))}}
		rule := link.PolicyRule{Ports: []link.PolicyPort{{Protocol: tcp, First: 80, Last: 80}}}
		for j := range peers {
			rule.Addresses = append(rule.Addresses, address(10<<24+245<<16+uint32(i*8+j)))
		}
		p.Ingress = &[]link.PolicyRule{rule}
		network.Policies[name] = p
	}
	return network
}

// addPeer makes one more Pod a peer of one policy, as a server tells it.
func addPeer(n *link.Network, address string) {
	key := slices.SortedFunc(maps.Keys(n.Policies), byName)[0]
	p := *n.Policies[key]
	rule := (*p.Ingress)[0]
	rule.Addresses = append(slices.Clone(rule.Addresses), address)
	p.Ingress = &[]link.PolicyRule{rule}
	n.Policies[key] = &p
}

// only stands for nft with one table; what is done to the other one is lost.
func only(fake *knftables.Fake) func(string) (knftables.Interface, error) {
	return func(table string) (knftables.Interface, error) {
		if !strings.HasSuffix(table, "-2") {
			return fake, nil
		}
		return knftables.NewFake(knftables.IPv4Family, table), nil
	}
}

// TestAPeerIsOneElement holds the promise of DESIGN.md.
func TestAPeerIsOneElement(t *testing.T) {
	e, n := New(Config{Cluster: "test", Node: node, Log: slog.New(slog.DiscardHandler)}), manyPolicies(50, 10)
	fake := knftables.NewFake(knftables.IPv4Family, e.Table())
	e.open = only(fake)
	check(t, e.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	before := fake.Dump()
	addPeer(n, "10.99.0.1")
	check(t, e.Apply(t.Context(), n, link.NetworkChange{Policies: true}))
	if got := fake.LastTransaction.NumOperations(); got != 1 {
		t.Errorf("%d operations:\n%s", got, fake.LastTransaction)
	}
	if after := fake.Dump(); !strings.Contains(after, "10.99.0.1") || strings.Contains(before, "10.99.0.1") {
		t.Errorf("the peer is not in the table:\n%s", after)
	}
}

// Pods of other nodes are judged there. As long as a node doesn't know which are its own, it judges all.
func TestOnlyOwnPodsAreRestricted(t *testing.T) {
	n := manyPolicies(1, 1)
	for _, p := range n.Policies {
		p.Pods = []string{"10.244.6.9", "10.244.7.2"}
	}
	e := New(Config{Cluster: "test", Node: node})
	restricted := func() []string { return slices.Sorted(maps.Keys(e.render(n).sets[ingress].elements)) }
	peers := n.Peers
	n.Peers = nil
	if diff := cmp.Diff([]string{"10.244.6.9", "10.244.7.2"}, restricted()); diff != "" {
		t.Error(diff)
	}
	n.Peers = peers
	for range 2 {
		if diff := cmp.Diff([]string{"10.244.7.2"}, restricted()); diff != "" {
			t.Error(diff)
		}
		n.Peers = nil // known once, it is not forgotten
	}
}

// Every Pod may ask every node for names, whatever its policies say: before they are asked.
func TestNamesAreAskedForAtEveryNode(t *testing.T) {
	n := manyPolicies(1, 1)
	n.Peers["other"] = link.Peer{Name: "other", PodCIDR: "10.244.9.0/24"}
	n.Peers["new"] = link.Peer{Name: "new"}
	table := New(Config{Cluster: "test", Node: node}).render(n)
	if diff := cmp.Diff([]string{"10.244.7.1", "10.244.9.1"}, slices.Sorted(maps.Keys(table.sets[names].elements))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, base := range []string{egress, input} {
		rules := table.chains[base].rules
		asks := slices.Index(rules, "ip daddr @names meta l4proto { tcp, udp } th dport 53 accept")
		if asks < 0 || asks > slices.Index(rules, "ip saddr vmap @egress") {
			t.Errorf("%s: %q", base, rules)
		}
	}
}

func TestAfterAnErrorTheTableIsMadeAnew(t *testing.T) {
	e, n := New(Config{Cluster: "test", Node: node, Log: slog.New(slog.DiscardHandler)}), manyPolicies(3, 3)
	fake := knftables.NewFake(knftables.IPv4Family, e.Table())
	e.open = only(fake)
	check(t, e.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	want := fake.Dump()
	other := knftables.NewFake(knftables.IPv4Family, e.Table()) // where nothing is: a change of what was there fails
	e.open = only(other)
	addPeer(n, "10.99.0.1")
	if err := e.Apply(t.Context(), n, link.NetworkChange{Policies: true}); err == nil {
		t.Fatal("a table that is not there was changed")
	}
	check(t, e.Apply(t.Context(), n, link.NetworkChange{Policies: true}))
	if got := strings.Replace(other.Dump(), "{ 10.99.0.1 }", "", 1); len(got) < len(want) {
		t.Errorf("want all of\n%s\ngot\n%s", want, got)
	}
}

func BenchmarkFromNothing(b *testing.B) {
	n := manyPolicies(1000, 100)
	for b.Loop() {
		check(b, newEnforcer(b).Apply(b.Context(), n, link.NetworkChange{Whole: true}))
	}
}

func BenchmarkOnePeer(b *testing.B) {
	n, e := manyPolicies(1000, 100), newEnforcer(b)
	check(b, e.Apply(b.Context(), n, link.NetworkChange{Whole: true}))
	for i := uint32(0); b.Loop(); i++ {
		addPeer(n, address(11<<24+i))
		check(b, e.Apply(b.Context(), n, link.NetworkChange{Policies: true}))
	}
}

func BenchmarkLook(b *testing.B) {
	n, e := manyPolicies(1000, 100), newEnforcer(b)
	check(b, e.Apply(b.Context(), n, link.NetworkChange{Whole: true}))
	for b.Loop() {
		check(b, e.Apply(b.Context(), n, link.NetworkChange{}))
	}
}
