package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// element is one entry of a map or, without a value, of a set.
type element struct{ set, key, value string }

// chain is a regular chain. One with clients also has a set of that name, in which clients' addresses stay for a while.
type chain struct {
	rules   []string
	clients int32 // seconds that a client stays in the chain's set; 0: there is none
}

// wants is what routes come to in nftables.
type wants struct {
	elements []element
	chains   map[string]chain
}

// insideOffset keeps apart the numbers of endpoints for clients within the cluster where others have their own. No Service
// has so many endpoints.
const insideOffset = 1 << 20

// wantsOf turns routes into elements and chains. node is where hairpins are: connections of Pods elsewhere to themselves do
// not pass here.
func wantsOf(routes []route) wants {
	w := wants{chains: map[string]chain{}}
	for i := range routes {
		w.add(&routes[i])
	}
	return w
}

func (w *wants) add(r *route) {
	if r.protocol == "" {
		w.element(setAddresses, r.address.String(), "")
		return
	}
	if r.refusal != "" {
		w.element(r.pick(mapRefused, mapRefusedNodePorts), r.key(), r.refusal)
	}
	w.lead(r)
	for _, e := range r.known {
		if e.local {
			ip := e.address.Addr().String()
			w.element(setHairpin, ip+" . "+ip, "")
		}
	}
}

func (w *wants) element(set, key, value string) {
	w.elements = append(w.elements, element{set, key, value})
}

// lead sends what is for the frontend to its endpoints.
func (w *wants) lead(r *route) {
	all := r.pick(mapServices, mapNodePorts)
	if r.inside == nil {
		w.dispatch(r, r.target, all, 0)
		return
	}
	if len(r.endpoints)+len(r.inside.endpoints) > 0 {
		w.element(all, r.key(), "goto "+r.pick(chainByClient, chainNodePortByClient))
	}
	w.dispatch(r, r.target, r.pick(mapOutside, mapOutsideNodePorts), 0)
	w.dispatch(r, *r.inside, r.pick(mapInside, mapInsideNodePorts), insideOffset)
}

// pick chooses the map by what the frontend is: an address, or a port of the node.
func (r *route) pick(address, node string) string {
	if r.address.IsValid() {
		return address
	}
	return node
}

// key is the frontend as the maps have it.
func (r *route) key() string {
	if r.address.IsValid() {
		return r.address.String() + " . " + r.protocol + " . " + strconv.Itoa(int(r.port))
	}
	return r.protocol + " . " + strconv.Itoa(int(r.port))
}

// dispatch sends what is for the frontend to a chain that spreads it over the endpoints.
func (w *wants) dispatch(r *route, to target, dispatcher string, offset int) {
	if len(to.endpoints) == 0 {
		return
	}
	if r.affinity > 0 {
		w.element(dispatcher, r.key(), "goto "+w.sticky(r, to))
		return
	}
	b := balance{protocol: r.protocol, source: to.source, count: len(to.endpoints), offset: offset, node: !r.address.IsValid()}
	w.chains[b.chain()] = chain{rules: b.rules()}
	w.element(dispatcher, r.key(), "goto "+b.chain())
	where := strconv.Itoa(int(r.port))
	if !b.node {
		where = r.address.String() + " . " + where
	}
	for i, e := range to.endpoints {
		w.element(b.endpoints(), where+" . "+strconv.Itoa(offset+i), e.Addr().String()+" . "+strconv.Itoa(int(e.Port())))
	}
}

// balance is a chain that all frontends with so many endpoints share: it draws a number and looks the endpoint up.
type balance struct {
	protocol string
	source   source
	count    int
	offset   int
	node     bool
}

// spreadPrefix begins the names of chains that belong to no Service.
const spreadPrefix = "spread-"

func (b balance) chain() string {
	name := spreadPrefix + b.protocol + "-" + string(b.source) + "-" + strconv.Itoa(b.count)
	if b.node {
		name += "-node"
	}
	if b.offset > 0 {
		name += "-inside"
	}
	return name
}

// endpointsSuffix ends the names of the maps of endpoints.
const endpointsSuffix = "-endpoints"

// endpoints is the map in which the chain looks.
func (b balance) endpoints() string {
	if b.node {
		return b.protocol + "-node" + endpointsSuffix
	}
	return b.protocol + endpointsSuffix
}

func (b balance) rules() []string {
	number := fmt.Sprintf("numgen random mod %d offset %d", b.count, b.offset)
	key := b.protocol + " dport . " + number
	if !b.node {
		key = "ip daddr . " + key
	}
	return append(markRules(b.source), "meta l4proto "+b.protocol+" dnat ip to "+key+" map @"+b.endpoints())
}

// markRules note in the connection's mark that it is one of ours, and whether postrouting is to masquerade it.
func markRules(s source) []string {
	translated := fmt.Sprintf("ct mark set ct mark | 0x%x", Mark)
	masquerade := fmt.Sprintf("ct mark set ct mark | 0x%x", Mark|masqueradeMark)
	switch s {
	case keepAll:
		return []string{translated}
	case keepPods:
		return []string{translated, "ip saddr != @" + setPods + " " + masquerade}
	}
	return []string{masquerade}
}

// sticky adds the chains of a frontend whose clients keep their endpoints: one for the frontend, one for each endpoint. The
// latter are the same for all frontends of the Service's port, and live on when other endpoints come and go.
func (w *wants) sticky(r *route, to target) string {
	rules := markRules(to.source)
	var draws []string
	for i, e := range to.endpoints {
		name := w.stickyEndpoint(r, e)
		rules = append(rules, "ip saddr @"+name+" goto "+name)
		draws = append(draws, fmt.Sprintf("%d : goto %s", i, name))
	}
	rules = append(rules, fmt.Sprintf("numgen random mod %d vmap { %s }", len(draws), strings.Join(draws, " , ")))
	name := "sticky-" + digest(r.name, r.key(), string(to.source))
	w.chains[name] = chain{rules: rules}
	return name
}

func (w *wants) stickyEndpoint(r *route, e netip.AddrPort) string {
	name := "keep-" + digest(r.name, r.protocol, e.String(), strconv.Itoa(int(r.affinity)))
	w.chains[name] = chain{clients: r.affinity, rules: []string{
		"update @" + name + " { ip saddr }",
		"meta l4proto " + r.protocol + " dnat ip to " + e.String(),
	}}
	return name
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:10])
}
