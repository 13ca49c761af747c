package proxy

import (
	"fmt"
	"net/netip"

	"sigs.k8s.io/knftables"
)

// Mark is the bit of a connection's mark (ct mark) that says: translated here for a Service. A firewall that lets
// connections pass by it lets answers pass too.
const Mark = 0x4000

// masqueradeMark: postrouting is to masquerade the connection.
const masqueradeMark = 0x8000

// The maps and sets. Those of Services are keyed by address . protocol . port, those of node ports by protocol . port.
const (
	mapServices         = "services"
	mapNodePorts        = "node-ports"
	mapOutside          = "outside-services" // frontends that clients within the cluster find in mapInside; see chainByClient
	mapOutsideNodePorts = "outside-node-ports"
	mapInside           = "inside-services"
	mapInsideNodePorts  = "inside-node-ports"
	mapRefused          = "refused"
	mapRefusedNodePorts = "refused-node-ports"
	setAddresses        = "addresses" // of Services, whatever the port
	setHairpin          = "hairpins"  // every endpoint of this node, twice: those who reach themselves
	setPods             = "pods"
	chainReject         = "rejected"
	// chainByClient is where mapServices sends frontends that stand in mapInside and mapOutside.
	chainByClient         = "by-client"
	chainNodePortByClient = "node-port-by-client"
)

// after lets rules see what destination NAT left as it was.
const after = knftables.DNATPriority + "+10"

func tableMaps() []*knftables.Map {
	const service, nodePort = "ipv4_addr . inet_proto . inet_service : verdict", "inet_proto . inet_service : verdict"
	list := []*knftables.Map{
		{Name: mapServices, Type: service}, {Name: mapNodePorts, Type: nodePort},
		{Name: mapOutside, Type: service}, {Name: mapOutsideNodePorts, Type: nodePort},
		{Name: mapInside, Type: service}, {Name: mapInsideNodePorts, Type: nodePort},
		{Name: mapRefused, Type: service}, {Name: mapRefusedNodePorts, Type: nodePort},
	}
	for _, protocol := range []string{"tcp", "udp"} {
		value := " . numgen random mod 2 : ip daddr . " + protocol + " dport"
		list = append(list,
			&knftables.Map{Name: balance{protocol: protocol}.endpoints(), TypeOf: "ip daddr . " + protocol + " dport" + value},
			&knftables.Map{Name: balance{protocol: protocol, node: true}.endpoints(), TypeOf: protocol + " dport" + value})
	}
	return list
}

func tableSets() []*knftables.Set {
	return []*knftables.Set{
		{Name: setAddresses, Type: "ipv4_addr"},
		{Name: setHairpin, Type: "ipv4_addr . ipv4_addr"},
		{Name: setPods, Type: "ipv4_addr", Flags: []knftables.SetFlag{knftables.IntervalFlag}},
	}
}

// checkedSets are the maps and sets of which each element is some Service's: clients, and the range of Pods, are not.
func checkedSets() []string {
	names := []string{setAddresses, setHairpin}
	for _, m := range tableMaps() {
		names = append(names, m.Name)
	}
	return names
}

type hook struct {
	name     string
	kind     knftables.BaseChainType
	at       knftables.BaseChainHook
	priority knftables.BaseChainPriority
}

var hooks = []hook{
	{"nat-prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority},
	{"nat-output", knftables.NATType, knftables.OutputHook, "-100"},
	{"nat-prerouting-again", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority + "+1"},
	{"nat-output-again", knftables.NATType, knftables.OutputHook, "-99"},
	{"nat-postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority},
	{"prerouting", knftables.FilterType, knftables.PreroutingHook, after},
	{"output", knftables.FilterType, knftables.OutputHook, after},
}

// fixedChains are the chains that are the same from the first to the last day. services is the range of their addresses;
// zero if it is not known.
func fixedChains(services netip.Prefix) map[string][]string {
	const service, nodePort = "ip daddr . meta l4proto . th dport vmap @", "meta l4proto . th dport vmap @"
	const fromPods, fromNode = "ip saddr @" + setPods + " ", "fib saddr type local "
	const toNode = "ip daddr != 127.0.0.0/8 fib daddr type local "
	unknown := "ip daddr @" + setAddresses
	if services.IsValid() {
		unknown = "ip daddr " + services.Masked().String()
	}
	return map[string][]string{
		"nat-prerouting": {"jump translate"},
		"nat-output":     {"jump translate"},
		// Whoever was on the way when the rules changed finds nothing above, and all of what holds now here.
		"nat-prerouting-again": {"jump translate"},
		"nat-output-again":     {"jump translate"},
		"translate":            {service + mapServices, toNode + nodePort + mapNodePorts},
		chainByClient:          {fromPods + service + mapInside, fromNode + service + mapInside, service + mapOutside},
		chainNodePortByClient:  {fromPods + nodePort + mapInsideNodePorts, fromNode + nodePort + mapInsideNodePorts, nodePort + mapOutsideNodePorts},
		"nat-postrouting": {
			`oifname "lo" return`, // a host's own addresses need none
			fmt.Sprintf("ct mark & 0x%[1]x == 0x%[1]x ct status dnat masquerade", Mark|masqueradeMark),
			fmt.Sprintf("ct mark & 0x%[1]x == 0x%[1]x ip saddr . ip daddr @%[2]s masquerade", Mark, setHairpin),
		},
		"prerouting": {"jump refuse"},
		"output":     {"jump refuse"},
		"refuse": {
			"ct state established,related return",
			service + mapRefused,
			toNode + nodePort + mapRefusedNodePorts,
			unknown + " goto " + chainReject,
		},
		chainReject: {"meta l4proto tcp reject with tcp reset", "reject"},
	}
}
