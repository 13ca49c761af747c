package podnet

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"
)

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
func (r *rules) add(ctx context.Context, address netip.Addr, ports []HostPort) error {
	err := r.update(ctx, func(_ knftables.Interface, tx *knftables.Transaction, present map[element]string) error {
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
	if err != nil {
		return err
	}
	return r.endOthers(address, ports)
}

// remove drops every port that is forwarded to an address.
func (r *rules) remove(ctx context.Context, address netip.Addr) error {
	var dropped bool
	err := r.update(ctx, func(nft knftables.Interface, tx *knftables.Transaction, present map[element]string) error {
		drop(tx, present, func(target netip.Addr) bool { return target == address })
		dropped = tx.NumOperations() > 0
		return nil
	})
	if err != nil || !dropped {
		return err
	}
	return r.endTranslated(address)
}

// sync brings the table in line: wanted holds every plugged address, and what is forwarded to it. Nothing is written if
// nothing is amiss.
func (r *rules) sync(ctx context.Context, wanted map[netip.Addr][]HostPort) error {
	err := r.update(ctx, func(nft knftables.Interface, tx *knftables.Transaction, present map[element]string) error {
		whole, err := r.whole(ctx, nft)
		if err != nil {
			return err
		}
		if !whole || !r.written.Load() {
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
	if err == nil {
		r.written.Store(true)
	}
	return err
}

func has[V any](m map[netip.Addr]V, address netip.Addr) bool {
	_, ok := m[address]
	return ok
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
func (r *rules) elements(ctx context.Context, nft knftables.Interface) (map[element]string, error) {
	present := map[element]string{}
	for _, name := range []string{anyPorts, oneIP} {
		listed, err := nft.ListElements(ctx, "map", name)
		if knftables.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list nftables map %s of table %s: %w", name, r.names.gateway, err)
		}
		for _, e := range listed {
			present[element{mapName: name, key: strings.Join(e.Key, " . ")}] = strings.Join(e.Value, " . ")
		}
	}
	return present, nil
}
