package podnet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"sigs.k8s.io/knftables"
)

// rules are the cluster's own nftables table. Its maps say which port of the host goes to which Pod, its set which nodes are
// reached without masquerading; they are all that ever changes. Its chains are the same from an agent's first to its last day.
type rules struct {
	names   names
	config  Config
	handle  *netlink.Handle
	written atomic.Bool // the chains are known to be those of this program, and not of an older one
}

func newRules(names names, config Config, handle *netlink.Handle) *rules {
	return &rules{names: names, config: config, handle: handle}
}

const (
	// loopMark is the bit of a connection's mark that says that it leads back to the Pod it comes from.
	loopMark = "0x00010000"
	nodes    = "nodes"       // addresses of other nodes that know how to reach this one's Pods
	anyPorts = "hostports"   // protocol . port → address . port
	oneIP    = "hostipports" // host's address . protocol . port → address . port
)

func (r *rules) open() (knftables.Interface, error) {
	nft, err := knftables.New(knftables.IPv4Family, r.names.gateway)
	if err != nil {
		return nil, fmt.Errorf("nftables (Debian package nftables): %w", err)
	}
	return nft, nil
}

// skeleton adds everything but the maps' elements. Chains are flushed first, so repeating it repairs them.
func (r *rules) skeleton(tx *knftables.Transaction) {
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("Mainstay's Pod network")})
	tx.Add(&knftables.Map{Name: anyPorts, Type: "inet_proto . inet_service : ipv4_addr . inet_service"})
	tx.Add(&knftables.Map{Name: oneIP, Type: "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"})
	tx.Add(&knftables.Set{Name: nodes, Type: "ipv4_addr"})
	chain := func(name string, kind knftables.BaseChainType, hook knftables.BaseChainHook, priority knftables.BaseChainPriority) {
		tx.Add(&knftables.Chain{Name: name, Type: &kind, Hook: &hook, Priority: &priority})
		tx.Flush(&knftables.Chain{Name: name})
	}
	tx.Add(&knftables.Chain{Name: "hostports"})
	tx.Flush(&knftables.Chain{Name: "hostports"})
	chain("prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority)
	chain("output", knftables.NATType, knftables.OutputHook, knftables.DNATPriority)
	chain("postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority)
	chain("forward", knftables.FilterType, knftables.ForwardHook, knftables.ManglePriority)
	chain("protect", knftables.FilterType, knftables.PreroutingHook, knftables.RawPriority)
	for name, lines := range r.chains() {
		for _, line := range lines {
			tx.Add(&knftables.Rule{Chain: name, Rule: line})
		}
	}
}

func (r *rules) chains() map[string][]string {
	local := []string{"fib daddr type local jump hostports"}
	asGateway := "snat to " + gateway(r.config.Pods).String()
	ports, pods := r.names.ports+"*", r.config.Pods.Masked().String()
	return map[string][]string{
		"prerouting": local,
		"output":     local,
		"hostports": {
			"dnat ip to ip daddr . meta l4proto . th dport map @" + oneIP,
			"dnat ip to meta l4proto . th dport map @" + anyPorts,
		},
		"forward": {
			// A tunnel carries less than the link it runs through. Connections are told so at once, whatever becomes of ICMP.
			"oifname " + r.names.tunnel + " tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
			// Translated, and back to where it came from: a Pod reaches itself by a host port or a Service.
			"iifname " + ports + " ct state new ct status dnat fib daddr . iif oif exists ct mark set ct mark or " + loopMark,
		},
		"postrouting": {
			// The host by its loopback address, and a Pod to itself: answers must come back this way.
			"oifname " + ports + " ip saddr 127.0.0.0/8 " + asGateway,
			"oifname " + ports + " ct mark and " + loopMark + " == " + loopMark + " " + asGateway,
			"oifname != " + ports + " ip saddr " + pods + " ip daddr != " + r.config.Local.Masked().String() + " ip daddr != @" + nodes + " masquerade",
		},
		// route_localnet would let Pods reach what listens on the host's loopback only.
		"protect": {"iifname " + ports + " ip daddr 127.0.0.0/8 drop"},
	}
}

// exempt sets the nodes that packets of Pods reach with their own source address.
func (r *rules) exempt(ctx context.Context, wanted map[netip.Addr]bool) error {
	return r.update(ctx, func(nft knftables.Interface, tx *knftables.Transaction, _ map[element]string) error {
		listed, err := nft.ListElements(ctx, "set", nodes)
		if knftables.IsNotFound(err) {
			r.skeleton(tx)
		} else if err != nil {
			return fmt.Errorf("list nftables set %s of table %s: %w", nodes, r.names.gateway, err)
		}
		present := map[string]bool{}
		for _, e := range listed {
			present[e.Key[0]] = true
			if address, err := netip.ParseAddr(e.Key[0]); err != nil || !wanted[address] {
				tx.Delete(&knftables.Element{Set: nodes, Key: e.Key})
			}
		}
		for address := range wanted {
			if !present[address.String()] {
				tx.Add(&knftables.Element{Set: nodes, Key: []string{address.String()}})
			}
		}
		return nil
	})
}

// update runs what change adds to a transaction, if it adds anything. present is what is forwarded now: values by slot.
func (r *rules) update(ctx context.Context, change func(knftables.Interface, *knftables.Transaction, map[element]string) error) error {
	nft, err := r.open()
	if err != nil {
		return err
	}
	present, err := r.elements(ctx, nft)
	if err != nil {
		return err
	}
	tx := nft.NewTransaction()
	if err := change(nft, tx, present); err != nil {
		return err
	}
	if tx.NumOperations() == 0 {
		return nil
	}
	return nft.Run(ctx, tx)
}

// whole tells whether every chain has as many rules as it should.
func (r *rules) whole(ctx context.Context, nft knftables.Interface) (bool, error) {
	listed, err := nft.ListRules(ctx, "")
	if knftables.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list rules of nftables table %s: %w", r.names.gateway, err)
	}
	count := map[string]int{}
	for _, rule := range listed {
		count[rule.Chain]++
	}
	chains := r.chains()
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		if count[name] != len(chains[name]) {
			return false, nil
		}
	}
	return true, nil
}

// destroy removes the table. None is no error.
func (r *rules) destroy(ctx context.Context) error {
	nft, err := r.open()
	if err != nil {
		return err
	}
	r.written.Store(false)
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{}) // deleting what is not there would fail
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", r.names.gateway, err)
	}
	return nil
}
