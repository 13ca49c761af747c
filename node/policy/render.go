package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// Names in the table. Chains and sets of policies are called after their direction and a digest.
const (
	egress  = "egress"  // map: address of a Pod of this node → where its egress is judged; and the base chain that asks it
	ingress = "ingress" // the same for ingress
	input   = "input"   // base chain: what Pods send to the node itself
	pods    = "pods"    // set: addresses that Pods have, on any node
	itself  = "itself"  // set: address . address of each restricted Pod
	names   = "names"   // set: where nodes answer names; every Pod may ask there, by TCP and UDP at port 53
)

// direction is what differs between judging what a Pod sends and what it gets.
type direction struct {
	name  string
	other string // the other side's address in a packet
	rules func(*link.Policy) *[]link.PolicyRule
}

var directions = []direction{
	{egress, "ip daddr", func(p *link.Policy) *[]link.PolicyRule { return p.Egress }},
	{ingress, "ip saddr", func(p *link.Policy) *[]link.PolicyRule { return p.Ingress }},
}

// part is what one policy adds to the table.
type part struct {
	policy *link.Policy // what it was made from; never changed, so the same pointer is the same part
	own    netip.Prefix
	pods   []string // addresses of this node's Pods that the policy is about
	chains map[string]chain
	sets   map[string]*set
	judges map[string]string // its chain by direction; none where it does not restrict
}

// render says what the table must hold. It remembers the parts of policies, and makes only those anew that have changed.
func (e *Enforcer) render(n *link.Network) *ruleset {
	if own, err := netip.ParsePrefix(n.Peers[e.config.Node].PodCIDR); err == nil {
		e.own = own.Masked()
	}
	maps.DeleteFunc(e.parts, func(key types.NamespacedName, _ part) bool { return n.Policies[key] == nil })
	want, judges := newRuleset(), map[string]map[string][]string{egress: {}, ingress: {}}
	for _, key := range slices.SortedFunc(maps.Keys(n.Policies), byName) {
		p := e.parts[key]
		if p.policy != n.Policies[key] || p.own != e.own {
			p = renderPolicy(n.Policies[key], e.own)
			e.parts[key] = p
		}
		if len(p.pods) == 0 {
			continue
		}
		maps.Copy(want.chains, p.chains)
		maps.Copy(want.sets, p.sets)
		for direction, judge := range p.judges {
			for _, pod := range p.pods {
				judges[direction][pod] = append(judges[direction][pod], judge)
			}
		}
	}
	for direction, byPod := range judges {
		want.judge(direction, byPod)
	}
	if len(want.sets[itself].elements) == 0 {
		return &ruleset{}
	}
	want.sets[pods].elements, want.sets[names].elements = podRanges(n.Peers), gateways(n.Peers)
	return want
}

func byName(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }

// judge sends each Pod to a chain that asks all of its policies, and drops what none of them lets through. Pods with the same
// policies share it.
func (r *ruleset) judge(direction string, byPod map[string][]string) {
	for pod, judges := range byPod {
		name := direction + "-of-" + digest(strings.Join(judges, " "))
		if _, known := r.chains[name]; !known {
			var rules []string
			for _, judge := range judges {
				rules = append(rules, "jump "+judge)
			}
			r.chains[name] = chain{rules: append(rules, "drop")}
		}
		r.sets[direction].elements[pod] = "jump " + name
		r.sets[itself].elements[pod+" . "+pod] = ""
	}
}

// renderPolicy renders one policy for the Pods in own, for all of them if that is not known: too many rules do no harm.
func renderPolicy(p *link.Policy, own netip.Prefix) part {
	out := part{policy: p, own: own, chains: map[string]chain{}, sets: map[string]*set{}, judges: map[string]string{}}
	for _, text := range p.Pods {
		if address, err := netip.ParseAddr(text); err == nil && address.Is4() && (!own.IsValid() || own.Contains(address)) {
			out.pods = append(out.pods, text)
		}
	}
	if len(out.pods) == 0 {
		return out
	}
	name := p.Namespace + "/" + p.Name
	for _, d := range directions {
		rules := d.rules(p)
		if rules == nil {
			continue
		}
		judge := d.name + "-" + digest(name)
		out.judges[d.name] = judge
		out.chains[judge] = chain{comment: name, rules: out.renderRules(d, judge, *rules)}
	}
	return out
}

// digest is long enough that two names in a cluster never have the same.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:10])
}

// gateways are the nodes' own addresses in their ranges.
func gateways(peers map[string]link.Peer) map[string]string {
	out := map[string]string{}
	for _, peer := range peers {
		if p, err := netip.ParsePrefix(peer.PodCIDR); err == nil && p.Addr().Is4() {
			out[p.Masked().Addr().Next().String()] = ""
		}
	}
	return out
}

// podRanges are the Peers' ranges without the first two addresses, the network's and the node's own in it. What overlaps, as
// may be for moments while nodes are replaced, is joined: the kernel would refuse it.
func podRanges(peers map[string]link.Peer) map[string]string {
	var ranges []span
	for _, peer := range peers {
		p, err := netip.ParsePrefix(peer.PodCIDR)
		if err != nil || !p.Addr().Is4() || p.Bits() > 30 {
			continue
		}
		first, last := spanOf(p)
		ranges = append(ranges, span{first + 2, last})
	}
	out := map[string]string{}
	for _, s := range join(ranges) {
		out[address(s.first)+"-"+address(s.last)] = ""
	}
	return out
}
