package podnet

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
)

// A connection keeps the translation of its first packet for as long as packets come, and UDP has no end: whoever keeps sending
// to a host port would for ever reach the Pod that was there first, or nobody.

// flows selects UDP connections of the kernel's table.
type flows func(netlink.ConntrackFlow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return flow.Forward.Protocol == syscall.IPPROTO_UDP && f(*flow)
}

// endTranslated forgets UDP connections that lead to an address and were made for another one.
func (r *rules) endTranslated(address netip.Addr) error {
	return r.forget(func(f netlink.ConntrackFlow) bool {
		return is(f.Reverse.SrcIP, address) && !is(f.Forward.DstIP, address)
	})
}

// endOthers forgets UDP connections to ports of the host that lead elsewhere than to the address these are forwarded to now: to the
// host itself, or to a Pod that died.
func (r *rules) endOthers(address netip.Addr, ports []HostPort) error {
	udp := map[uint16]bool{}
	for _, p := range ports {
		if p.Protocol == corev1.ProtocolUDP {
			udp[p.HostPort] = true
		}
	}
	if len(udp) == 0 {
		return nil
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return r.handle.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	own := map[string]bool{}
	for _, a := range addresses {
		own[a.IP.String()] = true
	}
	return r.forget(func(f netlink.ConntrackFlow) bool {
		return udp[f.Forward.DstPort] && own[f.Forward.DstIP.String()] && !is(f.Reverse.SrcIP, address)
	})
}

func (r *rules) forget(which flows) error {
	if _, err := r.handle.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, which); err != nil {
		return fmt.Errorf("forget UDP connections: %w", err)
	}
	return nil
}

func is(ip net.IP, address netip.Addr) bool {
	other, ok := netip.AddrFromSlice(ip)
	return ok && other.Unmap() == address
}
