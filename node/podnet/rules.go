package podnet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"
)

// rules are the cluster's own nftables table. Its maps say which port of the host goes to which Pod, and are all that ever
// changes; its chains are the same from the first to the last day.
type rules struct {
	table  string
	bridge string
	config Config
}

const (
	anyPorts = "hostports"   // protocol . port → address . port
	oneIP    = "hostipports" // host's address . protocol . port → address . port
)

func (r rules) open() (knftables.Interface, error) {
	nft, err := knftables.New(knftables.IPv4Family, r.table)
	if err != nil {
		return nil, fmt.Errorf("nftables (Debian package nftables): %w", err)
	}
	return nft, nil
}

// skeleton adds everything but the maps' elements. Chains are flushed first, so repeating it repairs them.
func (r rules) skeleton(tx *knftables.Transaction) {
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("Mainstay's Pod network")})
	tx.Add(&knftables.Map{Name: anyPorts, Type: "inet_proto . inet_service : ipv4_addr . inet_service"})
	tx.Add(&knftables.Map{Name: oneIP, Type: "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"})
	chain := func(name string, kind knftables.BaseChainType, hook knftables.BaseChainHook, priority knftables.BaseChainPriority) {
		tx.Add(&knftables.Chain{Name: name, Type: &kind, Hook: &hook, Priority: &priority})
		tx.Flush(&knftables.Chain{Name: name})
	}
	chain("prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority)
	chain("output", knftables.NATType, knftables.OutputHook, knftables.DNATPriority)
	chain("postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority)
	chain("protect", knftables.FilterType, knftables.PreroutingHook, knftables.RawPriority)
	for name, lines := range r.chains() {
		for _, line := range lines {
			tx.Add(&knftables.Rule{Chain: name, Rule: line})
		}
	}
}

func (r rules) chains() map[string][]string {
	forward := []string{
		"fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @" + oneIP,
		"fib daddr type local dnat ip to meta l4proto . th dport map @" + anyPorts,
	}
	return map[string][]string{
		"prerouting": forward,
		"output":     forward,
		"postrouting": {
			// The host by its loopback address, and Pods by a host port: answers must come back this way.
			"oifname " + r.bridge + " ip saddr 127.0.0.0/8 masquerade",
			"oifname " + r.bridge + " ip saddr " + r.config.Pods.Masked().String() + " ct status dnat masquerade",
			"oifname != " + r.bridge + " ip saddr " + r.config.Pods.Masked().String() + " ip daddr != " + r.config.Local.Masked().String() + " masquerade",
		},
		// route_localnet would let Pods reach what listens on the host's loopback only.
		"protect": {"iifname " + r.bridge + " ip daddr 127.0.0.0/8 drop"},
	}
}

// element is one forwarded port, in one of the two maps.
type element struct{ mapName, key, value string }

func elementsOf(address netip.Addr, ports []HostPort) []element {
	var elements []element
	for _, p := range ports {
		e := element{
			mapName: anyPorts,
			key:     protocol(p.Protocol) + " . " + strconv.Itoa(int(p.HostPort)),
			value:   address.String() + " . " + strconv.Itoa(int(p.Port)),
		}
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			e.mapName, e.key = oneIP, p.HostIP.String()+" . "+e.key
		}
		elements = append(elements, e)
	}
	return elements
}

func protocol(p corev1.Protocol) string {
	if p == "" {
		return "tcp"
	}
	return strings.ToLower(string(p))
}

// slot is the element without its value: what can be there only once.
func (e element) slot() element { return element{mapName: e.mapName, key: e.key} }

func (e element) object() *knftables.Element {
	return &knftables.Element{Map: e.mapName, Key: strings.Split(e.key, " . "), Value: strings.Split(e.value, " . ")}
}

// add forwards ports to an address. Ports that another address has are an error that names it.
func (r rules) add(ctx context.Context, address netip.Addr, ports []HostPort) error {
	return r.update(ctx, func(_ knftables.Interface, tx *knftables.Transaction, present map[element]string) error {
		r.skeleton(tx)
		for _, e := range elementsOf(address, ports) {
			switch value := present[e.slot()]; value {
			case "":
				tx.Add(e.object())
			case e.value:
			default:
				return fmt.Errorf("host port %s is taken by the Pod with address %s", e.key, value)
			}
		}
		return nil
	})
}

// remove drops every port that is forwarded to an address.
func (r rules) remove(ctx context.Context, address netip.Addr) error {
	return r.update(ctx, func(nft knftables.Interface, tx *knftables.Transaction, present map[element]string) error {
		drop(tx, present, func(target netip.Addr) bool { return target == address })
		return nil
	})
}

// sync brings the table in line: wanted holds every plugged address, and what is forwarded to it. Nothing is written if
// nothing is amiss.
func (r rules) sync(ctx context.Context, wanted map[netip.Addr][]HostPort) error {
	return r.update(ctx, func(nft knftables.Interface, tx *knftables.Transaction, present map[element]string) error {
		whole, err := r.whole(ctx, nft)
		if err != nil {
			return err
		}
		if !whole {
			r.skeleton(tx)
		}
		drop(tx, present, func(target netip.Addr) bool { return !has(wanted, target) })
		for address, ports := range wanted {
			for _, e := range elementsOf(address, ports) {
				if present[e.slot()] == "" {
					present[e.slot()] = e.value
					tx.Add(e.object())
				}
			}
		}
		return nil
	})
}

func has[V any](m map[netip.Addr]V, address netip.Addr) bool {
	_, ok := m[address]
	return ok
}

// update runs what change adds to a transaction, if it adds anything. present is what is forwarded now: values by slot.
func (r rules) update(ctx context.Context, change func(knftables.Interface, *knftables.Transaction, map[element]string) error) error {
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

// drop removes the elements that point to unwanted addresses, from present too.
func drop(tx *knftables.Transaction, present map[element]string, unwanted func(netip.Addr) bool) {
	for slot, value := range present {
		target, _ := netip.ParseAddr(strings.Fields(value)[0])
		if unwanted(target) {
			tx.Delete(element{mapName: slot.mapName, key: slot.key, value: value}.object())
			delete(present, slot)
		}
	}
}

// elements returns what is forwarded now, values by element without value. Nothing if there is no table.
func (r rules) elements(ctx context.Context, nft knftables.Interface) (map[element]string, error) {
	present := map[element]string{}
	for _, name := range []string{anyPorts, oneIP} {
		listed, err := nft.ListElements(ctx, "map", name)
		if knftables.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list nftables map %s of table %s: %w", name, r.table, err)
		}
		for _, e := range listed {
			present[element{mapName: name, key: strings.Join(e.Key, " . ")}] = strings.Join(e.Value, " . ")
		}
	}
	return present, nil
}

// whole tells whether every chain has as many rules as it should.
func (r rules) whole(ctx context.Context, nft knftables.Interface) (bool, error) {
	listed, err := nft.ListRules(ctx, "")
	if knftables.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list rules of nftables table %s: %w", r.table, err)
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
func (r rules) destroy(ctx context.Context) error {
	nft, err := r.open()
	if err != nil {
		return err
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{}) // deleting what is not there would fail
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", r.table, err)
	}
	return nil
}
