package podnet

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// OverlapError is an address or a route of the host's, not the network's own, within a range of Pods, as another cluster has one.
type OverlapError struct {
	Node      string // whose Pods the range is for; empty for this node's
	Pods      netip.Prefix
	Interface string       // "" for a route that leads nowhere
	Prefix    netip.Prefix // the interface's address, or the route's destination
}

// Error implements error.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("the Pod range %s%s overlaps %s of interface %s: give this cluster a range of its own by spec.podCIDR in mainstay.yaml, from its beginning",
		e.Pods, ofNode(e.Node), e.Prefix, e.Interface)
}

func ofNode(name string) string {
	if name == "" {
		return ""
	}
	return " of node " + name
}

// holding is an address or a route that belongs to the host, and not to the network.
type holding struct {
	link   int
	name   string       // of the link
	prefix netip.Prefix // an address with its length, or a destination
	direct bool         // an address on a link where neighbours are found by asking for them
	mtu    int          // of an address's link
}

// host is what the host has beside the network.
type host struct {
	addresses []holding
	routes    []holding // of the main table; without default routes
}

// overlap returns what of the host's stands in the way of a range: an address whose subnet shares addresses with it, or a route
// that leads part of it elsewhere. A wider route does not: the longer prefix wins.
func (h host) overlap(node string, pods netip.Prefix) error {
	for _, a := range h.addresses {
		if a.prefix.Overlaps(pods) {
			return &OverlapError{Node: node, Pods: pods, Interface: a.name, Prefix: a.prefix}
		}
	}
	for _, r := range h.routes {
		if r.prefix.Bits() >= pods.Bits() && r.prefix.Overlaps(pods) {
			return &OverlapError{Node: node, Pods: pods, Interface: r.name, Prefix: r.prefix}
		}
	}
	return nil
}

// neighbourOn returns the link on which an address is a neighbour's; 0 if there is none.
func (h host) neighbourOn(address netip.Addr) (link int) {
	longest := -1
	for _, a := range h.addresses {
		if a.direct && a.prefix.Contains(address) && a.prefix.Bits() > longest {
			link, longest = a.link, a.prefix.Bits()
		}
	}
	return link
}

// holds tells whether an address is the host's own.
func (h host) holds(address netip.Addr) bool {
	for _, a := range h.addresses {
		if a.prefix.Addr() == address {
			return true
		}
	}
	return false
}

// lookAround asks the kernel what the host has beside the network.
func (n *Network) lookAround() (host, error) {
	links, err := n.links()
	if err != nil {
		return host{}, err
	}
	others := map[int]netlink.Link{}
	for _, link := range links {
		if !n.owns(link) {
			others[link.Attrs().Index] = link
		}
	}
	var h host
	if h.addresses, err = n.addressesOf(others); err != nil {
		return host{}, err
	}
	h.routes, err = n.routesOf(others)
	return h, err
}

func (n *Network) addressesOf(links map[int]netlink.Link) (held []holding, err error) {
	addresses, err := dump(func() ([]netlink.Addr, error) { return n.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addresses {
		link, other := links[a.LinkIndex]
		prefix, ok := prefixOf(a.IPNet)
		if !other || !ok || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		const direct = net.FlagUp | net.FlagBroadcast
		held = append(held, holding{
			link: a.LinkIndex, name: link.Attrs().Name, prefix: prefix, direct: link.Attrs().Flags&direct == direct, mtu: link.Attrs().MTU,
		})
	}
	return held, nil
}

func (n *Network) routesOf(links map[int]netlink.Link) (held []holding, err error) {
	routes, err := n.listRoutes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		prefix, ok := prefixOf(r.Dst)
		link, other := links[r.LinkIndex]
		if n.marked(r) || !ok || prefix.Bits() == 0 || r.LinkIndex != 0 && !other || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		name := "(none)"
		if other {
			name = link.Attrs().Name
		}
		held = append(held, holding{link: r.LinkIndex, name: name, prefix: prefix})
	}
	return held, nil
}

// prefixOf is an address or destination of the kernel's. Not ok: there is none, as for a default route.
func prefixOf(ipNet *net.IPNet) (prefix netip.Prefix, ok bool) {
	if ipNet == nil {
		return netip.Prefix{}, false
	}
	address, ok := netip.AddrFromSlice(ipNet.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := ipNet.Mask.Size()
	return netip.PrefixFrom(address.Unmap(), ones), true
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

// single is the range of one address.
func single(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }
