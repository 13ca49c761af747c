package proxy

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/nft"
)

// bench is a Proxy over a fake nftables, that counts what else it does.
type bench struct {
	*Proxy
	t       *testing.T
	fake    *knftables.Fake
	network *link.Network
	sweeps  int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, network: link.NewNetwork(), fake: knftables.NewFake(knftables.IPv4Family, TableName("test"))}
	b.Proxy = New(Config{Cluster: "test", Node: "n1", Pods: netip.MustParsePrefix("10.244.0.0/16"), Log: slog.New(slog.DiscardHandler)})
	b.nft, b.batch = b.fake, 1
	b.table = kernel{
		rules:    func() (string, error) { return "", nil },
		elements: func(set string) (nft.Digest, error) { return b.elements(set), nil },
		end:      func(func(flow) bool) (int, error) { b.sweeps++; return 0, nil },
		route:    func() error { return nil },
	}
	return b
}

// elements digests what a map or set of the fake has.
func (b *bench) elements(set string) (all nft.Digest) {
	var list []*knftables.Element
	if m := b.fake.Table.Maps[set]; m != nil {
		list = m.Elements
	} else {
		list = b.fake.Table.Sets[set].Elements
	}
	for _, e := range list {
		all.Add(element{set, strings.Join(e.Key, " . "), strings.Join(e.Value, " . ")}.raw())
	}
	return all
}

// put makes a Service of the name with endpoints, and returns the operations it took.
func (b *bench) put(name string, svc *corev1.Service, endpoints ...discoveryv1.Endpoint) []string {
	b.t.Helper()
	key := types.NamespacedName{Namespace: "default", Name: name}
	b.network.Services[key] = svc
	b.network.Slices[key] = map[string]*discoveryv1.EndpointSlice{"a": sliceOf(svc, endpoints...)}
	return b.change(link.NetworkChange{Services: []types.NamespacedName{key}})
}

func (b *bench) remove(name string) []string {
	b.t.Helper()
	key := types.NamespacedName{Namespace: "default", Name: name}
	delete(b.network.Services, key)
	delete(b.network.Slices, key)
	return b.change(link.NetworkChange{Services: []types.NamespacedName{key}})
}

func (b *bench) change(c link.NetworkChange) []string {
	b.t.Helper()
	b.fake.LastTransaction = nil
	check(b.t, b.Apply(b.t.Context(), b.network, c))
	for _, set := range checkedSets() {
		if noted, there := b.programmed.elements[set], b.elements(set); noted != there {
			b.t.Errorf("%s has %+v, and %+v is noted", set, there, noted)
		}
	}
	if b.fake.LastTransaction == nil {
		return nil
	}
	text := strings.ReplaceAll(b.fake.LastTransaction.String(), " ip "+TableName("test"), "")
	return strings.Split(strings.TrimSpace(text), "\n")
}

func diff(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: -want +got:\n%s", what, d)
	}
}

func serviceAt(name, ip string) *corev1.Service {
	svc := service(corev1.ProtocolTCP, func(spec *corev1.ServiceSpec) { spec.ClusterIP = ip })
	svc.Name = name
	return svc
}

func TestAChangeIsOneSmallTransaction(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		b.put(string(rune('a'+i)), serviceAt(string(rune('a'+i)), netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}).String()),
			at("10.244.1.1", elsewhere), at("10.244.1.2", elsewhere), at("10.244.1.3", elsewhere))
	}
	svc := b.network.Services[types.NamespacedName{Namespace: "default", Name: "c"}]
	diff(t, "another address", b.put("c", svc, at("10.244.1.1", elsewhere), at("10.244.1.2", elsewhere), at("10.244.1.9", elsewhere)),
		"delete element tcp-endpoints { 10.96.1.2 . 80 . 2 }",
		"add element tcp-endpoints { 10.96.1.2 . 80 . 2 : 10.244.1.9 . 8080 }")
	diff(t, "one less", b.put("c", svc, at("10.244.1.1", elsewhere), at("10.244.1.2", elsewhere)),
		"add chain spread-tcp-pods-2",
		"add rule spread-tcp-pods-2 ct mark set ct mark | 0x4000",
		"add rule spread-tcp-pods-2 ip saddr != @pods ct mark set ct mark | 0xc000",
		"add rule spread-tcp-pods-2 meta l4proto tcp dnat ip to ip daddr . tcp dport . numgen random mod 2 offset 0 map @tcp-endpoints",
		"delete element services { 10.96.1.2 . tcp . 80 }",
		"delete element tcp-endpoints { 10.96.1.2 . 80 . 2 }",
		"add element services { 10.96.1.2 . tcp . 80 : goto spread-tcp-pods-2 }")
	diff(t, "the same", b.put("c", svc.DeepCopy(), at("10.244.1.2", elsewhere), at("10.244.1.1", elsewhere)))
	diff(t, "none", b.put("c", svc, at("10.244.1.1", elsewhere, unready)),
		"delete element services { 10.96.1.2 . tcp . 80 }",
		"delete element tcp-endpoints { 10.96.1.2 . 80 . 0 }",
		"delete element tcp-endpoints { 10.96.1.2 . 80 . 1 }",
		"add element refused { 10.96.1.2 . tcp . 80 : goto rejected }")
	diff(t, "gone", b.remove("c"),
		"delete element addresses { 10.96.1.2 }",
		"delete element refused { 10.96.1.2 . tcp . 80 }")
	diff(t, "a look", b.change(link.NetworkChange{}))
	diff(t, "all, of which nothing changed", b.change(link.NetworkChange{Whole: true}))
}

func TestAfterAnyChangesTheTableIsAsFromScratch(t *testing.T) {
	b := newBench(t)
	sticky := serviceAt("sticky", "10.96.0.2")
	sticky.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	local := serviceAt("local", "10.96.0.3")
	nodePort(&local.Spec)
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	b.put("plain", serviceAt("plain", "10.96.0.1"), at(oneIP), at(twoIP))
	b.put("sticky", sticky, at(oneIP), at(twoIP))
	b.put("local", local, at(oneIP), at(twoIP, elsewhere))
	b.put("gone", serviceAt("gone", "10.96.0.4"), at(oneIP))
	b.put("sticky", sticky, at(twoIP))
	b.put("plain", serviceAt("plain", "10.96.0.5"), at(twoIP))
	b.put("local", local, at(twoIP, elsewhere))
	b.remove("gone")

	scratch := newBench(t)
	scratch.network = b.network
	scratch.change(link.NetworkChange{Whole: true})
	if d := cmp.Diff(sortedDump(scratch.fake), sortedDump(b.fake)); d != "" {
		t.Errorf("-from scratch +by changes:\n%s", d)
	}
}

// sortedDump leaves out shared chains, which stay.
func sortedDump(fake *knftables.Fake) map[string]bool {
	lines := map[string]bool{}
	for _, line := range strings.Split(fake.Dump(), "\n") {
		if !strings.Contains(line, " "+spreadPrefix) {
			lines[line] = true
		}
	}
	return lines
}

func TestAPodOfTwoServicesIsAHairpinUntilTheLastGoes(t *testing.T) {
	b := newBench(t)
	b.put("a", serviceAt("a", "10.96.0.1"), at(oneIP))
	b.put("b", serviceAt("b", "10.96.0.2"), at(oneIP))
	hairpins := func() int { return len(b.fake.Table.Sets[setHairpin].Elements) }
	b.remove("a")
	if hairpins() != 1 {
		t.Errorf("%d hairpins while one Service has the Pod", hairpins())
	}
	b.remove("b")
	if hairpins() != 0 {
		t.Errorf("%d hairpins without Services", hairpins())
	}
}

func TestAFrontendStaysWithTheServiceThatHasIt(t *testing.T) {
	b := newBench(t)
	b.put("b", serviceAt("b", "10.96.0.1"), at(oneIP))
	b.put("a", serviceAt("a", "10.96.0.1"), at(twoIP))
	endpoint := func() string {
		return strings.Join(b.fake.Table.Maps["tcp-endpoints"].FindElement("10.96.0.1", "80", "0").Value, ":")
	}
	if got := endpoint(); got != oneIP+":8080" {
		t.Errorf("the second claimant has it: %s", got)
	}
	b.remove("b")
	b.put("other", serviceAt("other", "10.96.0.9"))
	if got := endpoint(); got != twoIP+":8080" {
		t.Errorf("the second claimant does not have it after the first: %s", got)
	}
}

func TestConnectionsAreLookedThroughOnlyWhenOneMayEnd(t *testing.T) {
	b := newBench(t)
	svc := serviceAt("web", "10.96.0.1")
	b.put("web", svc, at(oneIP), at(twoIP))
	b.sweeps = 0
	b.put("web", svc, at(oneIP), at(twoIP, unready))
	if b.sweeps != 1 {
		t.Errorf("%d times, though once an endpoint ceased to serve", b.sweeps)
	}
	b.sweeps = 0
	for _, endpoints := range [][]discoveryv1.Endpoint{{at(oneIP), at(twoIP, terminating)}, {at(oneIP), at(twoIP), at("10.244.7.9")}} {
		b.put("web", svc, endpoints...)
	}
	if b.sweeps != 0 {
		t.Errorf("%d times, though no endpoint went", b.sweeps)
	}
	b.put("web", svc, at(oneIP))
	if b.sweeps != 1 {
		t.Errorf("%d times, though endpoints went once", b.sweeps)
	}
}

func TestAfterAnErrorAllIsProgrammedAgain(t *testing.T) {
	b := newBench(t)
	b.put("web", serviceAt("web", "10.96.0.1"), at(oneIP))
	before := b.fake.Dump()
	b.fake.Table.Maps[mapServices].Elements = nil // the next deletion fails
	b.network.Services[types.NamespacedName{Namespace: "default", Name: "web"}] = serviceAt("web", "10.96.0.2")
	changed := link.NetworkChange{Services: []types.NamespacedName{{Namespace: "default", Name: "web"}}}
	if err := b.Apply(t.Context(), b.network, changed); !knftables.IsNotFound(errors.Unwrap(err)) {
		t.Fatalf("got %v", err)
	}
	b.change(link.NetworkChange{Whole: true})
	if d := cmp.Diff(strings.ReplaceAll(before, "10.96.0.1", "10.96.0.2"), b.fake.Dump()); d != "" {
		t.Error(d)
	}
}
