// Package podnet gives Pods addresses that every node and Pod of the cluster reaches: it connects the network namespace of a
// sandbox by a link of its own, routes between Pods and to other nodes' Pods, masquerades what leaves the cluster, and forwards
// host ports. It holds no state: what is plugged it reads from the links themselves, so a killed agent finds everything again,
// and an address is free once the kernel removed its link. It touches nothing but its own links and routes, its own nftables
// table, and labelled rules in the chain that Docker leaves to its users; why it is made this way is in DESIGN.md. Services
// and policies are not its business. Start at Network.Plug and Network.SetPeers.
package podnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
)

// Config says which addresses to use.
type Config struct {
	Cluster string       // the cluster's id; names follow from it, so two clusters can share a host
	Pods    netip.Prefix // the node's own range. Its first address is the gateway's. Zero: nothing can be plugged
	// Local is the range that is reached without masquerading: that of all nodes' Pods. Pods if zero.
	Local netip.Prefix
}

// Port is a sandbox as the network sees it.
type Port struct {
	Key       string     // identifies the sandbox for ever: a replaced sandbox needs a new one. No spaces, 64 bytes at most
	NetNS     string     // path of its network namespace
	HostPorts []HostPort // what is forwarded to it
}

// HostPort forwards a port of the host to the Pod.
type HostPort struct {
	HostIP   netip.Addr // zero for all of the host's addresses
	HostPort uint16
	Port     uint16
	Protocol corev1.Protocol // TCP or UDP
}

// Network is one cluster's network on this host. All methods are safe for concurrent use.
type Network struct {
	names  names
	config Config
	handle *netlink.Handle // bound to the network namespace that Open was called in
	rules  *rules

	mu   sync.Mutex // guards the rest, and is held while the gateway is made
	pool *pool      // nil until the first Plug

	peersMu sync.Mutex // guards the rest, and is held while routes to other nodes are changed
	known   bool       // SetPeers was called: before, routes that an earlier agent made stay as they are
	peers   []Peer
}

// netlinkTimeout is long for the kernel, and short for whoever waits for a Pod.
const netlinkTimeout = 5 * time.Second

// Open returns the network of a cluster in the network namespace of the calling process. Nothing is made or changed before
// the first Plug or Sync. Close it after use.
func Open(config Config) (*Network, error) {
	if !config.Local.IsValid() {
		config.Local = config.Pods
	}
	handle, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := handle.SetSocketTimeout(netlinkTimeout); err != nil {
		handle.Close()
		return nil, fmt.Errorf("set up netlink: %w", err)
	}
	names := namesOf(config.Cluster)
	return &Network{names: names, config: config, handle: handle, rules: newRules(names, config, handle)}, nil
}

// Close releases what Open took. Everything plugged stays.
func (n *Network) Close() { n.handle.Close() }

// Name is the name of the nftables table, and of the device that has the gateway's address.
func (n *Network) Name() string { return n.names.gateway }

// Plug connects the sandbox's namespace and returns its address. Plugged already, it returns the address it has. It is an
// *OverlapError if the range is not the cluster's alone.
func (n *Network) Plug(ctx context.Context, p Port) (netip.Addr, error) {
	address, err := n.plug(p)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("plug %s into the network: %w", p.Key, err)
	}
	if len(p.HostPorts) > 0 {
		if err := n.rules.add(ctx, address, p.HostPorts); err != nil {
			return netip.Addr{}, fmt.Errorf("forward host ports to %s: %w", address, err)
		}
	}
	return address, nil
}

func (n *Network) plug(p Port) (netip.Addr, error) {
	if old, err := n.handle.LinkByName(n.names.port(p.Key)); err == nil {
		if _, address, complete := n.parseAlias(old.Attrs().Alias); complete {
			return address, nil
		}
		if err := n.handle.LinkDel(old); err != nil {
			return netip.Addr{}, fmt.Errorf("remove what is left of an earlier try: %w", err)
		}
	}
	address, err := n.reserve()
	if err != nil {
		return netip.Addr{}, err
	}
	if err := n.connect(p, address); err != nil {
		n.release(address)
		return netip.Addr{}, err
	}
	return address, nil
}

// reserve makes the gateway if there is none and picks an address that nobody has.
func (n *Network) reserve() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.ensureGateway(); err != nil {
		return netip.Addr{}, err
	}
	if n.pool == nil {
		n.pool = newPool(n.config.Pods)
		if err := n.refill(); err != nil {
			return netip.Addr{}, err
		}
	}
	address, ok := n.pool.take()
	if ok {
		return address, nil
	}
	if err := n.refill(); err != nil {
		return netip.Addr{}, err
	}
	if address, ok = n.pool.take(); !ok {
		return netip.Addr{}, fmt.Errorf("no free address in %s", n.config.Pods)
	}
	return address, nil
}

// refill frees the addresses of links that are gone.
func (n *Network) refill() error {
	ports, err := n.Ports()
	if err != nil {
		return err
	}
	n.pool.reset(ports)
	return nil
}

func (n *Network) release(address netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pool != nil {
		n.pool.put(address)
	}
}

// Unplug disconnects a sandbox and frees its address. One that is not plugged is no error.
func (n *Network) Unplug(ctx context.Context, key string) error {
	link, err := n.handle.LinkByName(n.names.port(key))
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the port of %s: %w", key, err)
	}
	_, address, _ := n.parseAlias(link.Attrs().Alias)
	if err := n.handle.LinkDel(link); err != nil && !gone(err) {
		return fmt.Errorf("unplug %s: %w", key, err)
	}
	n.release(address)
	if !address.IsValid() {
		return nil // it was never completely plugged
	}
	if err := n.rules.remove(ctx, address); err != nil {
		return fmt.Errorf("remove host ports of %s: %w", address, err)
	}
	return nil
}

// Ports returns the address of every plugged sandbox, by key.
func (n *Network) Ports() (map[string]netip.Addr, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	ports := map[string]netip.Addr{}
	for _, link := range links {
		if key, address, ok := n.parseAlias(link.Attrs().Alias); ok {
			ports[key] = address
		}
	}
	return ports, nil
}

// Strange tells whether a sandbox is plugged with an address that is not of the range: it was when the node had another one.
func (n *Network) Strange(key string) (bool, error) {
	ports, err := n.Ports()
	if err != nil {
		return false, err
	}
	address, plugged := ports[key]
	return plugged && !n.config.Pods.Contains(address), nil
}

// Sync repairs what somebody else removed or changed: the gateway's address, links, routes, rules, and host ports of these
// sandboxes; and drops host ports of sandboxes that are gone. It changes nothing where nothing is amiss.
func (n *Network) Sync(ctx context.Context, ports []Port) error {
	if err := n.repairLinks(); err != nil {
		return err
	}
	live, err := n.Ports()
	if err != nil {
		return err
	}
	wanted := map[netip.Addr][]HostPort{}
	for _, address := range live {
		wanted[address] = nil
	}
	for _, p := range ports {
		if address, ok := live[p.Key]; ok {
			wanted[address] = p.HostPorts
		}
	}
	return errors.Join(n.rules.sync(ctx, wanted), n.repairPeers(ctx), allowForwarding(ctx, n.names))
}

// Cleanup removes every link, route and rule of the network. Pods lose it.
func (n *Network) Cleanup(ctx context.Context) error {
	errs := []error{n.removeRoutes(), n.removeLinks()}
	n.mu.Lock()
	n.pool = nil
	n.mu.Unlock()
	return errors.Join(append(errs, n.rules.destroy(ctx), forbidForwarding(ctx, n.names))...)
}
