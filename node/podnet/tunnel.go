package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
)

const (
	// tunnelPort is what Linux uses for VXLAN unless told otherwise, and firewalls are told of for other networks of this kind.
	tunnelPort = 8472
	// tunnelOverhead is what VXLAN adds to a packet: Ethernet 14, VXLAN 8, UDP 8, IPv4 20 bytes; IPv6 has 20 more.
	tunnelOverhead   = 50
	tunnelOverheadV6 = 70
)

// ensureTunnel returns the index of the VXLAN device, with all that it needs to reach the peers behind it; 0 if there are none.
func (n *Network) ensureTunnel(p paths, around host) (device int, err error) {
	peers := p.tunnelled()
	if len(peers) == 0 {
		return 0, nil
	}
	if !p.self.Address.IsValid() {
		return 0, errors.New("this node is not among the nodes of the cluster, so that the others could not answer it: is its address right (--node-ip)?")
	}
	link, err := n.ensureDevice(p.self.Address, n.tunnelMTU(p.self.Address, around))
	if err != nil {
		return 0, fmt.Errorf("tunnel %s to other nodes: %w", n.names.tunnel, err)
	}
	index := link.Attrs().Index
	present, err := n.endpoints(index)
	if err != nil {
		return 0, err
	}
	var errs []error
	for e := range endpointsOf(peers) {
		if present[e] {
			continue
		}
		if err := n.handle.NeighSet(e.neigh(index)); err != nil {
			errs = append(errs, fmt.Errorf("tunnel %s: %s is at %s: %w", n.names.tunnel, e.ip, e.hardware, err))
		}
	}
	return index, errors.Join(errs...)
}

// trimTunnel removes what leads to peers that are no longer behind the tunnel, or all of it. Routes to them are gone already.
func (n *Network) trimTunnel(p paths, device int) error {
	if device == 0 {
		link, err := n.handle.LinkByName(n.names.tunnel)
		if err == nil {
			err = n.handle.LinkDel(link)
		}
		if err != nil && !gone(err) {
			return fmt.Errorf("remove tunnel %s: %w", n.names.tunnel, err)
		}
		return nil
	}
	present, err := n.endpoints(device)
	if err != nil {
		return err
	}
	var errs []error
	wanted := endpointsOf(p.tunnelled())
	for e := range present {
		if wanted[e] {
			continue
		}
		if err := n.handle.NeighDel(e.neigh(device)); err != nil && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("tunnel %s: forget %s at %s: %w", n.names.tunnel, e.ip, e.hardware, err))
		}
	}
	return errors.Join(errs...)
}

// endpoint is an entry of the device's tables: which hardware address a gateway has, or at which node a hardware address is.
type endpoint struct {
	family   int
	ip       netip.Addr
	hardware string
}

// endpointsOf returns the entries that lead to peers. A node's hardware address follows from its address.
func endpointsOf(peers []Peer) map[endpoint]bool {
	entries := map[endpoint]bool{}
	for _, peer := range peers {
		hardware, via := hardwareAddress(peer.Address).String(), gateway(peer.Pods)
		entries[endpoint{family: familyOf(via), ip: via, hardware: hardware}] = true
		entries[endpoint{family: syscall.AF_BRIDGE, ip: peer.Address, hardware: hardware}] = true
	}
	return entries
}

func (e endpoint) neigh(device int) *netlink.Neigh {
	hardware, _ := net.ParseMAC(e.hardware) // it was printed by this package
	entry := &netlink.Neigh{LinkIndex: device, Family: e.family, State: netlink.NUD_PERMANENT, IP: e.ip.AsSlice(), HardwareAddr: hardware}
	if e.family == syscall.AF_BRIDGE {
		entry.Flags = netlink.NTF_SELF
	}
	return entry
}

// endpoints returns the entries that are there and do not expire.
func (n *Network) endpoints(device int) (map[endpoint]bool, error) {
	present := map[endpoint]bool{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6, syscall.AF_BRIDGE} {
		entries, err := dump(func() ([]netlink.Neigh, error) { return n.handle.NeighList(device, family) })
		if err != nil {
			return nil, fmt.Errorf("list the neighbours behind %s: %w", n.names.tunnel, err)
		}
		for _, e := range entries {
			if ip, ok := netip.AddrFromSlice(e.IP); ok && e.State&netlink.NUD_PERMANENT != 0 {
				present[endpoint{family: family, ip: ip.Unmap(), hardware: e.HardwareAddr.String()}] = true
			}
		}
	}
	return present, nil
}

// ensureDevice returns the VXLAN device, up, as the other nodes expect it of the one with this address. It finds nothing out by
// itself: who is where, it is told.
func (n *Network) ensureDevice(self netip.Addr, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = n.names.tunnel, hardwareAddress(self), mtu
	wanted := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: n.names.number, Port: tunnelPort}
	link, err := n.handle.LinkByName(attrs.Name)
	if err == nil && !sameTunnel(link, wanted) {
		if err := n.handle.LinkDel(link); err != nil && !gone(err) {
			return nil, err
		}
		err = netlink.LinkNotFoundError{}
	}
	if gone(err) {
		if err = n.handle.LinkAdd(wanted); err != nil {
			return nil, err
		}
		link, err = n.handle.LinkByName(attrs.Name)
	}
	if err != nil {
		return nil, err
	}
	return link, n.adjust(link, attrs)
}

// sameTunnel tells whether a device can stay: what else there is to it can be changed while it is in use.
func sameTunnel(link netlink.Link, wanted *netlink.Vxlan) bool {
	present, ok := link.(*netlink.Vxlan)
	return ok && present.VxlanId == wanted.VxlanId && present.Port == wanted.Port && !present.Learning
}

func (n *Network) adjust(link netlink.Link, wanted netlink.LinkAttrs) error {
	have := link.Attrs()
	if have.HardwareAddr.String() != wanted.HardwareAddr.String() {
		if err := n.handle.LinkSetHardwareAddr(link, wanted.HardwareAddr); err != nil {
			return err
		}
	}
	if have.MTU != wanted.MTU {
		if err := n.handle.LinkSetMTU(link, wanted.MTU); err != nil {
			return err
		}
	}
	if have.Flags&net.FlagUp == 0 {
		if err := n.handle.LinkSetUp(link); err != nil {
			return err
		}
	}
	// What the host itself sends through the tunnel, or masquerades, a Service's connection say, takes the device's address. So
	// answers come back through it too.
	own := &netlink.Addr{IPNet: ipNet(single(gateway(n.config.Pods)))}
	if err := n.handle.AddrAdd(link, own); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("add address %s: %w", own, err)
	}
	return nil
}

// tunnelMTU is what fits through the link that has the node's address.
func (n *Network) tunnelMTU(self netip.Addr, around host) int {
	overhead := tunnelOverhead
	if !self.Is4() {
		overhead = tunnelOverheadV6
	}
	for _, a := range around.addresses {
		if a.prefix.Addr() == self {
			return a.mtu - overhead
		}
	}
	return n.uplinkMTU() - overhead
}
