package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const (
	podLink = "eth0" // inside the sandbox
	// defaultMTU is used on hosts without a default route.
	defaultMTU = 1500
	// aliasParts are the network's name, the key and the address.
	aliasParts = 3
)

// alias marks a port as completely set up, and is where Ports finds it again.
func (n *Network) alias(key string, address netip.Addr) string {
	return n.names.gateway + " " + key + " " + address.String()
}

func (n *Network) parseAlias(alias string) (key string, address netip.Addr, ok bool) {
	parts := strings.Split(alias, " ")
	if len(parts) != aliasParts || parts[0] != n.names.gateway {
		return "", netip.Addr{}, false
	}
	address, err := netip.ParseAddr(parts[2])
	return parts[1], address, err == nil
}

// owns tells whether a link is the network's.
func (n *Network) owns(link netlink.Link) bool {
	name := link.Attrs().Name
	if _, _, port := n.parseAlias(link.Attrs().Alias); port {
		return true
	}
	return name == n.names.gateway || name == n.names.tunnel || link.Type() == "veth" && strings.HasPrefix(name, n.names.ports)
}

func (n *Network) links() ([]netlink.Link, error) {
	links, err := dump(n.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return links, nil
}

// gone tells that a link was removed by somebody else, or with its namespace.
func gone(err error) bool {
	return errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, syscall.ENODEV)
}

// connect makes the link into the sandbox's namespace and sets up both ends. The alias comes last.
func (n *Network) connect(p Port, address netip.Addr) error {
	ns, err := netns.GetFromPath(p.NetNS)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", p.NetNS, err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.names.port(p.Key), n.uplinkMTU(), hardwareAddress(gateway(n.config.Pods))
	attrs.Flags |= net.FlagUp
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: podLink, PeerHardwareAddr: hardwareAddress(address), PeerNamespace: netlink.NsFd(ns)}
	if err := n.handle.LinkAdd(link); err != nil {
		return fmt.Errorf("make link %s: %w", attrs.Name, err)
	}
	for _, step := range []func() error{
		func() error { return n.configure(ns, address) },
		func() error { return n.setUpPort(link, address) },
		func() error { return n.handle.LinkSetAlias(link, n.alias(p.Key, address)) },
	} {
		if err := step(); err != nil {
			return errors.Join(fmt.Errorf("set up link %s: %w", attrs.Name, err), n.handle.LinkDel(link))
		}
	}
	n.mu.Lock()
	n.pool.plugged(address)
	n.mu.Unlock()
	return nil
}

// setUpPort sets up the host's end, which is up already.
func (n *Network) setUpPort(link netlink.Link, address netip.Addr) error {
	// The host's loopback reaches host ports. The rules see to it that this gives Pods no way to the host's loopback.
	if _, err := turn("/proc/sys/net/ipv4/conf/"+link.Attrs().Name+"/route_localnet", "0", "1"); err != nil {
		return err
	}
	return n.routePort(link, address)
}

// configure sets up the sandbox's end: whatever it sends goes to the host, which alone decides where it goes from there. The
// gateway's hardware address is known for good, so nothing depends on how the host answers ARP.
func (n *Network) configure(ns netns.NsHandle, address netip.Addr) error {
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("open netlink in the sandbox: %w", err)
	}
	defer inside.Close()
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	eth, err := inside.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", podLink, err)
	}
	hop, index := gateway(n.config.Pods), eth.Attrs().Index
	for _, step := range []func() error{
		func() error { return inside.LinkSetUp(lo) },
		func() error { return inside.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(single(address))}) },
		func() error { return inside.LinkSetUp(eth) },
		func() error {
			return inside.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: hop.AsSlice(), HardwareAddr: hardwareAddress(hop)})
		},
		func() error {
			return inside.RouteAdd(&netlink.Route{LinkIndex: index, Gw: hop.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
		},
	} {
		if err := step(); err != nil {
			return fmt.Errorf("set up %s in the sandbox: %w", podLink, err)
		}
	}
	return nil
}

// repairLinks makes the gateway again if it was removed, and routes to the ports.
func (n *Network) repairLinks() error {
	n.mu.Lock()
	err := n.ensureGateway()
	n.mu.Unlock()
	if err != nil {
		return err
	}
	links, err := n.links()
	if err != nil {
		return err
	}
	routes, err := n.ownRoutes()
	if err != nil {
		return err
	}
	for _, link := range links {
		_, address, port := n.parseAlias(link.Attrs().Alias)
		if !port {
			continue
		}
		if err := n.repairPort(link, address, routes[single(address)].LinkIndex); err != nil && !gone(err) {
			return fmt.Errorf("repair link %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}

// repairPort sees to it that a port is up and is where the packets for its address go; routed is where they go now.
func (n *Network) repairPort(link netlink.Link, address netip.Addr, routed int) error {
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := n.handle.LinkSetUp(link); err != nil {
			return err
		}
		routed = 0
	}
	if routed == link.Attrs().Index {
		return nil
	}
	return n.setUpPort(link, address)
}

// removeLinks removes every link of the network, and lets the host forward no longer if it did not before.
func (n *Network) removeLinks() error {
	links, err := n.links()
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range links {
		if !n.owns(link) {
			continue
		}
		if link.Attrs().Alias == n.names.gateway+turnedOn {
			_, err := turn(ipForward, "1", "0")
			errs = append(errs, err)
		}
		if err := n.handle.LinkDel(link); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}
