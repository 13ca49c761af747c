package podnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
)

// Peer is a node of the cluster, as others reach its Pods.
type Peer struct {
	Name    string
	Pods    netip.Prefix // the node's range
	Address netip.Addr   // the node's own
}

// SetPeers makes the Pods of these nodes reachable, and those of all others that an earlier call named not. This node is among
// them: it is the one with this network's range, or else the one with an address of this host. Peers that have no range or
// address yet are left out. Once it returned, every route is as it should be but for those that the error names: an
// *OverlapError where the host needs addresses of a peer's Pods for something else. Sync repairs what it made.
func (n *Network) SetPeers(ctx context.Context, peers []Peer) error {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	n.known, n.peers = true, slices.Clone(peers)
	return n.applyPeers(ctx)
}

// repairPeers does what SetPeers last did once more. Before that nothing is known to be amiss.
func (n *Network) repairPeers(ctx context.Context) error {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	if !n.known {
		return nil
	}
	return n.applyPeers(ctx)
}

// path is how a peer's Pods are reached.
type path struct {
	Peer
	link int // the link on which the node is a neighbour; 0: through the tunnel
}

// paths is what follows from the peers and the host.
type paths struct {
	self Peer // zero if it is not among the peers
	open []path
}

// plan decides how each peer is reached; own is this node's range. The error is about ranges that overlap something. Those are
// not opened, but what is routed already stays: what others add to a host must not stop Pods that run.
func plan(own netip.Prefix, peers []Peer, around host, routed map[netip.Prefix]netlink.Route) (paths, error) {
	var errs []error
	p := paths{self: selfAmong(own, peers, around)}
	sorted := slices.SortedFunc(slices.Values(peers), func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	for _, peer := range sorted {
		peer.Pods = peer.Pods.Masked()
		if peer.Name == p.self.Name || !peer.Pods.IsValid() || !peer.Address.IsValid() {
			continue
		}
		if err := refuse(own, p.open, peer); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := around.overlap(peer.Name, peer.Pods); err != nil {
			errs = append(errs, err)
			if _, already := routed[peer.Pods]; !already {
				continue
			}
		}
		p.open = append(p.open, path{Peer: peer, link: around.neighbourOn(peer.Address)})
	}
	return p, errors.Join(errs...)
}

func selfAmong(own netip.Prefix, peers []Peer, around host) (self Peer) {
	for _, peer := range peers {
		if peer.Pods == own {
			return peer
		}
		if around.holds(peer.Address) {
			self = peer
		}
	}
	return self
}

// refuse is an error if a peer's range overlaps one that is in use already.
func refuse(own netip.Prefix, open []path, peer Peer) error {
	if own.Overlaps(peer.Pods) {
		return fmt.Errorf("the Pod range %s of node %s overlaps %s, this node's own", peer.Pods, peer.Name, own)
	}
	for _, other := range open {
		if other.Pods.Overlaps(peer.Pods) {
			return fmt.Errorf("the Pod range %s of node %s overlaps %s of node %s", peer.Pods, peer.Name, other.Pods, other.Name)
		}
	}
	return nil
}

// neighbours are the peers that send answers to this node's Pods back by the link the question came in on.
func (p paths) neighbours() map[netip.Addr]bool {
	addresses := map[netip.Addr]bool{}
	for _, path := range p.open {
		if path.link != 0 && path.Address.Is4() {
			addresses[path.Address] = true
		}
	}
	return addresses
}

func (p paths) tunnelled() []Peer {
	var peers []Peer
	for _, path := range p.open {
		if path.link == 0 {
			peers = append(peers, path.Peer)
		}
	}
	return peers
}

// applyPeers brings routes and tunnel in line. What is new is made before what is stale is removed.
func (n *Network) applyPeers(ctx context.Context) error {
	if !n.config.Pods.IsValid() {
		return errNoRange
	}
	around, err := n.lookAround()
	if err != nil {
		return err
	}
	routed, err := n.ownRoutes()
	if err != nil {
		return err
	}
	p, refused := plan(n.config.Pods, n.peers, around, routed)
	device, err := n.ensureTunnel(p, around)
	if err != nil {
		return errors.Join(refused, err)
	}
	errs := []error{refused, n.rules.exempt(ctx, p.neighbours())}
	if err := n.ensureRoutes(p, device, routed); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, n.trimTunnel(p, device))...)
}

// hop is where a route leads; all that tells two of them apart.
type hop struct {
	link   int
	via    netip.Addr
	onlink bool
}

// hop is where the Pods of a peer are.
func (p path) hop(tunnel int) hop {
	if p.link != 0 {
		return hop{link: p.link, via: p.Address}
	}
	return hop{link: tunnel, via: gateway(p.Pods), onlink: true}
}

func hopOf(r netlink.Route) hop {
	h := hop{link: r.LinkIndex, onlink: r.Flags&int(netlink.FLAG_ONLINK) != 0}
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		h.via = via.Unmap()
	}
	return h
}

func (h hop) route(to netip.Prefix) netlink.Route {
	r := netlink.Route{Dst: ipNet(to), LinkIndex: h.link, Gw: h.via.AsSlice()}
	if h.onlink {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	return r
}

// ensureRoutes makes, changes and removes routes to other nodes' Pods. A changed one is never absent.
func (n *Network) ensureRoutes(p paths, tunnel int, present map[netip.Prefix]netlink.Route) error {
	var errs []error
	wanted := map[netip.Prefix]bool{}
	for _, path := range p.open {
		wanted[path.Pods] = true
		to := path.hop(tunnel)
		if route, ok := present[path.Pods]; ok && hopOf(route) == to && route.Type == syscall.RTN_UNICAST {
			continue
		}
		if err := n.handle.RouteReplace(n.mark(to.route(path.Pods))); err != nil {
			errs = append(errs, fmt.Errorf("route to the Pods of node %s, %s via %s: %w", path.Name, path.Pods, to.via, err))
		}
	}
	own := n.config.Pods.Masked()
	if route, ok := present[own]; ok && route.Type != syscall.RTN_UNREACHABLE { // it was another node's
		errs = append(errs, n.handle.RouteReplace(n.rangeEnd()))
	}
	for prefix, route := range present {
		if wanted[prefix] || prefix == own || route.Scope == netlink.SCOPE_LINK {
			continue // the second is the end of the own range, the third leads to a port, with which it goes
		}
		errs = append(errs, n.removeRoute(prefix, route))
	}
	return errors.Join(errs...)
}
