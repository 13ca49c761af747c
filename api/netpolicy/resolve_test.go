package netpolicy

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/api/netpolicy/suite"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// TestSuite holds what a policy resolves to against what Kubernetes says that it means.
func TestSuite(t *testing.T) {
	for _, c := range suite.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			r := statetest.New(t, objectsOf(c)...).View()
			var resolved []link.Policy
			for _, p := range c.Policies {
				resolved = append(resolved, throughTheWire(t, Resolve(r, p)))
			}
			for probe := range c.Probes() {
				if got, want := allowed(resolved, probe), c.Allowed(probe); got != want {
					t.Errorf("%s: allowed = %t, want %t", probe, got, want)
				}
			}
		})
	}
}

func objectsOf(c suite.Cluster) (all []object.Object) {
	for _, ns := range c.Namespaces {
		all = append(all, ns)
	}
	for _, pod := range c.Pods {
		all = append(all, pod)
	}
	for _, p := range c.Policies {
		all = append(all, p)
	}
	return all
}

// allowed reads resolved policies as node/link says they are meant.
func allowed(policies []link.Policy, p suite.Probe) bool {
	from, to := p.From.Status.PodIP, p.To.Status.PodIP
	return open(policies, from, func(p link.Policy) *[]link.PolicyRule { return p.Egress }, func(r link.PolicyRule) bool { return lets(r, to, p) }) &&
		open(policies, to, func(p link.Policy) *[]link.PolicyRule { return p.Ingress }, func(r link.PolicyRule) bool { return lets(r, from, p) })
}

func open(policies []link.Policy, pod string, direction func(link.Policy) *[]link.PolicyRule, lets func(link.PolicyRule) bool) bool {
	restricted := false
	for _, p := range policies {
		rules := direction(p)
		if rules == nil || !slices.Contains(p.Pods, pod) {
			continue
		}
		restricted = true
		if slices.ContainsFunc(*rules, lets) {
			return true
		}
	}
	return !restricted
}

func lets(r link.PolicyRule, other string, p suite.Probe) bool {
	peer := r.Anyone || r.EveryPod || slices.Contains(r.Addresses, other) || slices.ContainsFunc(r.Blocks, func(b link.PolicyBlock) bool {
		inside := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(netip.MustParseAddr(other)) }
		return inside(b.CIDR) && !slices.ContainsFunc(b.Except, inside)
	})
	port := len(r.Ports) == 0 && !r.NoPort || slices.ContainsFunc(r.Ports, func(q link.PolicyPort) bool {
		return q.Protocol == p.Protocol && (q.First == 0 || q.First <= p.Port && p.Port <= q.Last) &&
			(len(q.Pods) == 0 || slices.Contains(q.Pods, p.To.Status.PodIP))
	})
	return peer && port
}

// Pods that have ended, have no address or share their node's are nobody's peers and selected by nothing.
func TestPodsThatDoNotCount(t *testing.T) {
	c := caseNamed(t, "should deny ingress from pods on other namespaces") // every Pod of x is selected, and a peer
	c.Pods[0].Status.Phase = corev1.PodFailed
	c.Pods[1].Spec.HostNetwork = true
	late := c.Pods[2].DeepCopy()
	late.Name, late.Status = "late", corev1.PodStatus{Phase: corev1.PodPending}
	c.Pods = append(c.Pods, late)
	r := statetest.New(t, objectsOf(c)...).View()
	got := Resolve(r, c.Policies[0])
	want := []string{c.Pods[2].Status.PodIP}
	if !slices.Equal(got.Pods, want) || !slices.Equal((*got.Ingress)[0].Addresses, want) {
		t.Errorf("resolved to %+v, want only %s", got, want)
	}
}

func caseNamed(t testing.TB, name string) suite.Cluster {
	t.Helper()
	all := suite.Cases()
	i := slices.IndexFunc(all, func(c suite.Cluster) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no case %q", name)
	}
	return all[i]
}

// throughTheWire is what a node gets: nothing may read as less of a restriction there.
func throughTheWire(t *testing.T, p link.Policy) (out link.Policy) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
