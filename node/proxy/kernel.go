package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// leadTo routes the range to the bridge, so that the node's own processes have a way to Services without a default route,
// and an address that other nodes' Pods can answer. No such bridge yet: it will be there with the first Pod.
func leadTo(services netip.Prefix, bridge string) error {
	if !services.IsValid() || bridge == "" {
		return nil
	}
	link, err := netlink.LinkByName(bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for bridge %s: %w", bridge, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return nil
	}
	to := &net.IPNet{IP: services.Masked().Addr().AsSlice(), Mask: net.CIDRMask(services.Bits(), services.Addr().BitLen())}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteAdd(route); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("route %s to %s: %w", services, bridge, err)
	}
	return nil
}
