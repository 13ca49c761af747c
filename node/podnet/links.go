package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const (
	podLink = "eth0" // inside the sandbox
	// defaultMTU is used on hosts without a default route.
	defaultMTU = 1500
	// aliasParts are the bridge's name, the key and the address.
	aliasParts = 3
)

// portName is the name of the host's end of a sandbox's link.
func portName(key string) string { return "msv" + digest(key, 11) }

// alias marks a port as completely set up, and is where Ports finds it again.
func (n *Network) alias(key string, address netip.Addr) string {
	return n.name + " " + key + " " + address.String()
}

func (n *Network) parseAlias(alias string) (key string, address netip.Addr, ok bool) {
	parts := strings.Split(alias, " ")
	if len(parts) != aliasParts || parts[0] != n.name {
		return "", netip.Addr{}, false
	}
	address, err := netip.ParseAddr(parts[2])
	return parts[1], address, err == nil
}

// gone tells that a link was removed by somebody else, or with its namespace.
func gone(err error) bool {
	return errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, syscall.ENODEV)
}

// connect makes the link into the sandbox's namespace and sets up both ends. The alias comes last.
func (n *Network) connect(p Port, address netip.Addr, bridge netlink.Link) error {
	ns, err := netns.GetFromPath(p.NetNS)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", p.NetNS, err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.MTU = portName(p.Key), bridge.Attrs().Index, bridge.Attrs().MTU
	attrs.Flags |= net.FlagUp
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: podLink, PeerHardwareAddr: hardwareAddress(address), PeerNamespace: netlink.NsFd(ns)}
	if err := n.handle.LinkAdd(link); err != nil {
		return fmt.Errorf("make link %s: %w", attrs.Name, err)
	}
	// Without hairpin a bridge never sends a frame back where it came from, and a Pod could not reach itself by a host port.
	if err := n.handle.LinkSetHairpin(link, true); err != nil {
		return errors.Join(fmt.Errorf("set up link %s: %w", attrs.Name, err), n.handle.LinkDel(link))
	}
	if err := n.configure(ns, address); err != nil {
		return errors.Join(err, n.handle.LinkDel(link))
	}
	if err := n.handle.LinkSetAlias(link, n.alias(p.Key, address)); err != nil {
		return errors.Join(fmt.Errorf("label link %s: %w", attrs.Name, err), n.handle.LinkDel(link))
	}
	n.mu.Lock()
	n.pool.plugged(address)
	n.mu.Unlock()
	return nil
}

// configure sets up the sandbox's end.
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
	route := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway(n.config.Pods).AsSlice()}
	for _, step := range []func() error{
		func() error { return inside.LinkSetUp(lo) },
		func() error { return inside.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(address, n.config.Pods.Bits())}) },
		func() error { return inside.LinkSetUp(eth) },
		func() error { return inside.RouteAdd(route) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("set up %s in the sandbox: %w", podLink, err)
		}
	}
	return nil
}

func ipNet(address netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, address.BitLen())}
}

// ensureBridge returns the bridge, up and with the range's first address.
func (n *Network) ensureBridge() (netlink.Link, error) {
	if !n.config.Pods.IsValid() {
		return nil, errors.New("no address range was given")
	}
	if n.pool == nil { // nothing was plugged yet
		if err := n.refuseOverlap(); err != nil {
			return nil, err
		}
	}
	bridge, err := n.handle.LinkByName(n.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		bridge, err = n.makeBridge()
	}
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", n.name, err)
	}
	if bridge.Attrs().Flags&net.FlagUp == 0 {
		if err := n.handle.LinkSetUp(bridge); err != nil {
			return nil, fmt.Errorf("bridge %s: %w", n.name, err)
		}
	}
	own := &netlink.Addr{IPNet: ipNet(gateway(n.config.Pods), n.config.Pods.Bits())}
	if err := n.handle.AddrAdd(bridge, own); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("bridge %s: add address %s: %w", n.name, own, err)
	}
	return bridge, n.ensureSysctls()
}

// refuseOverlap is an error if another interface of the host holds addresses of the range, since only one of the two would be
// reached by them. A bridge that has its address already stays in use, whatever others have done since.
func (n *Network) refuseOverlap() error {
	addresses, err := n.handle.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	var taken error
	for _, a := range addresses {
		held, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok {
			continue
		}
		ones, _ := a.Mask.Size()
		prefix := netip.PrefixFrom(held, ones)
		if !prefix.Overlaps(n.config.Pods) {
			continue
		}
		link, err := n.handle.LinkByIndex(a.LinkIndex)
		if gone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for the interface of %s: %w", prefix, err)
		}
		if link.Attrs().Name != n.name {
			taken = &OverlapError{Pods: n.config.Pods, Interface: link.Attrs().Name, Prefix: prefix}
		} else if held == gateway(n.config.Pods) {
			return nil
		}
	}
	return taken
}

// makeBridge gives the bridge a hardware address of its own: else it would change with its ports, and Pods would lose their gateway.
func (n *Network) makeBridge() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.name, n.uplinkMTU(), hardwareAddress(gateway(n.config.Pods))
	attrs.Alias = n.name
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return n.handle.LinkByName(n.name)
}

// uplinkMTU is that of the link with the default route: what is larger would be fragmented or lost.
func (n *Network) uplinkMTU() int {
	routes, err := n.handle.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_DST)
	if err != nil || len(routes) == 0 {
		return defaultMTU
	}
	link, err := n.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return defaultMTU
	}
	return link.Attrs().MTU
}

// ensureSysctls lets the host forward, and lets its own loopback reach host ports. The rules see to it that the latter
// gives Pods no way to the host's loopback.
func (n *Network) ensureSysctls() error {
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/" + n.name + "/route_localnet"} {
		value, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(value)) == "0" {
			err = os.WriteFile(path, []byte("1"), 0)
		}
		if err != nil {
			return fmt.Errorf("turn on %s: %w", path, err)
		}
	}
	return nil
}

// repairLinks makes the bridge again if it was removed, and puts the ports back on it.
func (n *Network) repairLinks() error {
	n.mu.Lock()
	bridge, err := n.ensureBridge()
	n.mu.Unlock()
	if err != nil {
		return err
	}
	links, err := n.handle.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if _, _, port := n.parseAlias(link.Attrs().Alias); !port {
			continue
		}
		if err := n.repairPort(link, bridge); err != nil && !gone(err) {
			return fmt.Errorf("repair link %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}

func (n *Network) repairPort(link, bridge netlink.Link) error {
	if link.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := n.handle.LinkSetMaster(link, bridge); err != nil {
			return err
		}
		if err := n.handle.LinkSetHairpin(link, true); err != nil {
			return err
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return n.handle.LinkSetUp(link)
	}
	return nil
}
