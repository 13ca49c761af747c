package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

const (
	// noPrefixRoute keeps the kernel from routing the range to the gateway's device, where nobody is.
	noPrefixRoute = 0x200 // IFA_F_NOPREFIXROUTE of linux/if_addr.h
	ipForward     = "/proc/sys/net/ipv4/ip_forward"
	// turnedOn is added to the alias of the gateway's device if the host did not forward before: Cleanup undoes that.
	turnedOn = " ip_forward=0"
)

var errNoRange = errors.New("no address range was given")

// gateway is the node's own address in a range: what Pods send to, and what the host shows up with at them.
func gateway(pods netip.Prefix) netip.Addr { return pods.Masked().Addr().Next() }

// ensureGateway sees to it that the host has the gateway's address, forwards, and keeps packets to addresses of the range that
// no Pod has. The device is a bridge without ports, because every kernel has those; nothing ever passes through it.
func (n *Network) ensureGateway() error {
	if !n.config.Pods.IsValid() {
		return errNoRange
	}
	if n.pool == nil { // nothing was plugged yet
		if err := n.refuseOverlap(); err != nil {
			return err
		}
	}
	device, err := n.handle.LinkByName(n.names.gateway)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		device, err = n.makeGateway()
	}
	if err == nil {
		err = n.handle.LinkSetUp(device)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", n.names.gateway, err)
	}
	own := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway(n.config.Pods), n.config.Pods.Bits())), Flags: noPrefixRoute}
	if err := n.handle.AddrAdd(device, own); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("device %s: add address %s: %w", n.names.gateway, own, err)
	}
	return errors.Join(n.dropFormer(device), n.endRange(), n.forward(device))
}

// dropFormer takes the gateway's address in a range that the node had before from the device: it may be another node's by now.
func (n *Network) dropFormer(device netlink.Link) error {
	held, err := dump(func() ([]netlink.Addr, error) { return n.handle.AddrList(device, familyOf(n.config.Pods.Addr())) })
	if err != nil {
		return fmt.Errorf("list addresses of device %s: %w", n.names.gateway, err)
	}
	for _, a := range held {
		if is(a.IP, gateway(n.config.Pods)) || a.IP.IsLinkLocalUnicast() {
			continue
		}
		if err := n.handle.AddrDel(device, &a); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("device %s: remove address %s: %w", n.names.gateway, a.IPNet, err)
		}
	}
	return nil
}

func (n *Network) makeGateway() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = n.names.gateway, hardwareAddress(gateway(n.config.Pods))
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return n.handle.LinkByName(n.names.gateway)
}

// refuseOverlap is an error if the host has addresses or routes of the range, since only one of the two would be reached. A
// gateway that is there already stays in use, whatever others have done since.
func (n *Network) refuseOverlap() error {
	held, err := dump(func() ([]netlink.Addr, error) { return n.handle.AddrList(nil, familyOf(n.config.Pods.Addr())) })
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	device, err := n.handle.LinkByName(n.names.gateway)
	for _, a := range held {
		if err == nil && a.LinkIndex == device.Attrs().Index && is(a.IP, gateway(n.config.Pods)) {
			return nil
		}
	}
	around, err := n.lookAround()
	if err != nil {
		return err
	}
	return around.overlap("", n.config.Pods)
}

func familyOf(address netip.Addr) int {
	if address.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// forward lets the host forward. That it did not is kept in the device's alias.
func (n *Network) forward(device netlink.Link) error {
	changed, err := turn(ipForward, "0", "1")
	if err != nil || !changed {
		return err
	}
	if err := n.handle.LinkSetAlias(device, n.names.gateway+turnedOn); err != nil {
		return fmt.Errorf("label device %s: %w", n.names.gateway, err)
	}
	return nil
}

// turn sets a switch of the kernel's from one value to another; changed is false if it had a different one than from.
func turn(path, from, to string) (changed bool, err error) {
	value, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(value)) == from {
		changed, err = true, os.WriteFile(path, []byte(to), 0)
	}
	if err != nil {
		return false, fmt.Errorf("set %s to %s: %w", path, to, err)
	}
	return changed, nil
}

// uplinkMTU is that of the link with the default route: what is larger would be fragmented or lost.
func (n *Network) uplinkMTU() int {
	routes, err := n.listRoutes()
	if err != nil {
		return defaultMTU
	}
	for _, r := range routes {
		if prefix, ok := prefixOf(r.Dst); ok && prefix.Bits() > 0 || r.LinkIndex == 0 {
			continue
		}
		if link, err := n.handle.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return defaultMTU
}
