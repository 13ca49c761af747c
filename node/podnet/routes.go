package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
)

// routeProtocol says in every route whose it is; `ip route` shows it as "proto 109". The numbers from 192 on are in use by others.
const routeProtocol = 0x6d

// dumpTries bounds how often a list is asked for again that changed while the kernel printed it.
const dumpTries = 10

// dump asks the kernel for a list until it gets a consistent one.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// mark makes a route the network's own.
func (n *Network) mark(r netlink.Route) *netlink.Route {
	r.Protocol, r.Priority = routeProtocol, n.names.number
	return &r
}

func (n *Network) marked(r netlink.Route) bool {
	return r.Protocol == routeProtocol && r.Priority == n.names.number
}

// listRoutes returns the main table's routes.
func (n *Network) listRoutes() ([]netlink.Route, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return n.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// ownRoutes returns the network's routes by destination.
func (n *Network) ownRoutes() (map[netip.Prefix]netlink.Route, error) {
	routes, err := n.listRoutes()
	if err != nil {
		return nil, err
	}
	own := map[netip.Prefix]netlink.Route{}
	for _, r := range routes {
		if prefix, ok := prefixOf(r.Dst); ok && n.marked(r) {
			own[prefix] = r
		}
	}
	return own, nil
}

// routePort leads an address to its link. The host itself shows up at the Pod with the gateway's address.
func (n *Network) routePort(link netlink.Link, address netip.Addr) error {
	route := n.mark(netlink.Route{
		Dst: ipNet(single(address)), LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: gateway(n.config.Pods).AsSlice(),
	})
	if err := n.handle.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to %s: %w", address, link.Attrs().Name, err)
	}
	return nil
}

func (n *Network) rangeEnd() *netlink.Route {
	return n.mark(netlink.Route{Dst: ipNet(n.config.Pods.Masked()), Type: syscall.RTN_UNREACHABLE})
}

// endRange says what becomes of packets for addresses that no Pod has: they do not go around by the default route.
func (n *Network) endRange() error {
	if err := n.handle.RouteAdd(n.rangeEnd()); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("route %s: %w", n.config.Pods.Masked(), err)
	}
	return nil
}

// removeRoutes removes every route of the network.
func (n *Network) removeRoutes() error {
	own, err := n.ownRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for prefix, route := range own {
		if err := n.removeRoute(prefix, route); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeRoute removes one. That it is gone already is no error.
func (n *Network) removeRoute(prefix netip.Prefix, route netlink.Route) error {
	if err := n.handle.RouteDel(&route); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("remove route %s: %w", prefix, err)
	}
	return nil
}
