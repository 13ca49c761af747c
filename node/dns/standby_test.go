package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// standing is a network in which nodes with these addresses answer names; "me" has 10.244.3.1.
func standing(addresses ...string) *link.Network {
	n := link.NewNetwork()
	n.Peers["me"] = link.Peer{Name: "me", PodCIDR: "10.244.3.0/24"}
	var endpoints []discoveryv1.Endpoint
	for _, address := range addresses {
		endpoints = append(endpoints, endpoint(address, ""))
	}
	put(n, serviceOf(nameService.Namespace, nameService.Name, "10.96.0.10"), slice("kube-dns", nil, endpoints...))
	return n
}

func TestWhoStandsIn(t *testing.T) {
	for name, tc := range map[string]struct{ have, want []string }{
		"those that follow":           {[]string{"10.244.1.1", "10.244.3.1", "10.244.4.1", "10.244.5.1", "10.244.10.1", "10.244.11.1"}, []string{"10.244.4.1", "10.244.5.1", "10.244.10.1"}},
		"then those from the start":   {[]string{"10.244.3.1", "10.244.2.1", "10.244.1.1", "10.244.9.1"}, []string{"10.244.9.1", "10.244.1.1", "10.244.2.1"}},
		"all, if there are few":       {[]string{"10.244.1.1", "10.244.3.1"}, []string{"10.244.1.1"}},
		"nobody, for there is nobody": {[]string{"10.244.3.1"}, nil},
		"none of what is no address":  {[]string{"n1", "fd00::1"}, nil},
	} {
		n := standing(tc.have...)
		var got []string
		for _, address := range standbys(n.EndpointSlicesOf(nameService), netip.MustParseAddr("10.244.3.1")) {
			got = append(got, address.String())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhoListensHereIsAskedFirst(t *testing.T) {
	const question = "ip saddr 10.244.3.0/24 meta l4proto { tcp, udp } th dport 53 ip daddr "
	const draw = " dnat to numgen random mod 2 map { 0 : 10.244.4.1, 1 : 10.244.1.1 }"
	want := []knftables.Rule{
		{Chain: "questions", Rule: "ip saddr 10.244.3.0/24 ip daddr 10.244.3.1 udp dport 53 socket wildcard 0 notrack"},
		{Chain: "answers", Rule: "ip saddr 10.244.3.1 ip daddr 10.244.3.0/24 udp sport 53 notrack"},
		{Chain: "elsewhere", Rule: question + "10.244.3.1 socket wildcard 0 accept"},
		{Chain: "elsewhere", Rule: question + "10.244.3.1" + draw},
		{Chain: "elsewhere", Rule: question + "10.96.0.10" + draw},
	}
	if diff := cmp.Diff(want, standbyRules(standing("10.244.1.1", "10.244.4.1"), "me")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if rules := standbyRules(standing("10.244.1.1"), "new"); rules != nil {
		t.Errorf("a node without a range has %v", rules)
	}
}

func TestTheStandbysTableFollows(t *testing.T) {
	s := NewStandby("test", "me", slog.New(slog.NewTextHandler(t.Output(), nil)))
	fake := knftables.NewFake(knftables.IPv4Family, s.table)
	s.nft = fake
	holds := func(want string) {
		t.Helper()
		if dump := fake.Dump(); !strings.Contains(dump, want) || want == "" && dump != "" {
			t.Fatalf("%q is not in the table:\n%s", want, dump)
		}
	}
	check(t, s.Apply(t.Context(), standing("10.244.1.1"), link.NetworkChange{Whole: true}))
	holds("mod 1 map { 0 : 10.244.1.1 }")
	check(t, s.Apply(t.Context(), standing("10.244.5.1"), link.NetworkChange{Services: []types.NamespacedName{nameService}}))
	holds("mod 1 map { 0 : 10.244.5.1 }")

	tx := fake.NewTransaction()
	tx.Flush(&knftables.Chain{Name: elsewhere})
	check(t, fake.Run(t.Context(), tx))
	for range lookEvery { // somebody emptied it
		check(t, s.Apply(t.Context(), standing("10.244.5.1"), link.NetworkChange{}))
	}
	holds("mod 1 map { 0 : 10.244.5.1 }")

	check(t, s.Apply(t.Context(), standing(), link.NetworkChange{Whole: true}))
	holds("")
}

// A kernel that cannot do it leaves the node as good as it was, and says so once.
func TestAKernelWithoutSocketsInRulesIsToldOfOnce(t *testing.T) {
	var said strings.Builder
	s := NewStandby("test", "me", slog.New(slog.NewTextHandler(&said, nil)))
	s.nft = refusing{knftables.NewFake(knftables.IPv4Family, s.table)}
	for i := range 3 {
		check(t, s.Apply(t.Context(), standing(fmt.Sprintf("10.244.%d.1", i+4)), link.NetworkChange{Whole: true}))
	}
	if got := strings.Count(said.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings:\n%s", got, said.String())
	}
}

// refusing is an nft that can do nothing.
type refusing struct{ knftables.Interface }

func (refusing) Run(context.Context, *knftables.Transaction) error {
	return errors.New("not supported")
}
