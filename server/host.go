package server

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/mainstay-cluster/mainstay/node/dns"
	"github.com/mainstay-cluster/mainstay/node/docker"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/ping"
	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/policy"
	"github.com/mainstay-cluster/mainstay/node/proxy"
	"github.com/mainstay-cluster/mainstay/node/routing"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// host is what a node's machine has for its agent.
type host struct {
	runtime runtime.Runtime
	routers []routing.Router
	ping    routing.Ping
	beside  []part // what runs as long as the agent does
	close   func()
}

// openHost opens what runs a cluster's Pods on a machine and connects them; dir is for what must outlive a restart.
type openHost func(cluster, dir string) (host, error)

// thisHost runs Pods on this machine's Docker Engine.
func (a *agent) thisHost(cluster, dir string) (host, error) {
	alone, err := lockCluster(cluster)
	if err != nil {
		return host{}, err
	}
	rt, err := docker.New(docker.Config{Cluster: cluster, Host: a.cfg.DockerHost, DataDir: dir, NodeIP: a.cfg.NodeIP, Log: a.cfg.Log})
	if err != nil {
		alone()
		return host{}, fmt.Errorf("reach the Docker Engine: %w", err)
	}
	ask, closePing := a.pinger()
	names := dns.New(dns.Config{Node: a.name, Metrics: a.registry, Log: a.cfg.Log})
	services := func(r ranges) applyFunc {
		return proxy.New(proxy.Config{
			Cluster: cluster, Node: a.name, Pods: r.pods, Services: r.services, Bridge: rt.PodInterface(), Log: a.cfg.Log,
		}).Apply
	}
	return host{
		runtime: rt,
		routers: []routing.Router{
			{Name: "pods", Apply: podRouter(rt)},
			{Name: "services", Apply: madeFor(rangesOf, services)},
			{Name: "policies", Apply: policy.New(policy.Config{Cluster: cluster, Node: a.name, Log: a.cfg.Log}).Apply},
			{Name: "names", Apply: names.Apply},
			{Name: "names of others", Apply: dns.NewStandby(cluster, a.name, a.cfg.Log).Apply},
		},
		ping:   ask,
		beside: []part{names.Run},
		close:  func() { closePing(); rt.Close(); alone() },
	}, nil
}

// pinger asks other nodes for signs of life; nil where this process may not.
func (a *agent) pinger() (ask routing.Ping, end func()) {
	pinger, err := ping.Open()
	if err != nil {
		a.cfg.Log.Warn("other nodes are not asked whether they live: Services lead to dead ones until a server says so", "err", err)
		return nil, func() {}
	}
	return pinger.Round, func() { _ = pinger.Close() }
}

// podRouter makes other nodes' Pods reachable. The runtime itself looks now and then whether they still are.
func podRouter(rt *docker.Runtime) applyFunc {
	return func(ctx context.Context, n *link.Network, changed link.NetworkChange) error {
		if !changed.Whole && !changed.Peers {
			return nil
		}
		var peers []podnet.Peer
		for _, p := range n.Peers {
			pods, err := netip.ParsePrefix(p.PodCIDR)
			if err != nil {
				return fmt.Errorf("pod range of node %s: %w", p.Name, err)
			}
			address, err := netip.ParseAddr(p.Address)
			if err != nil {
				return fmt.Errorf("address of node %s: %w", p.Name, err)
			}
			peers = append(peers, podnet.Peer{Name: p.Name, Pods: pods, Address: address})
		}
		return rt.SetPeers(ctx, peers)
	}
}

// applyFunc is the Apply of a routing.Router.
type applyFunc func(ctx context.Context, n *link.Network, changed link.NetworkChange) error

// madeFor is a router for something that only the network tells: it is made of that, and anew when that changes. As long as
// it is not told yet, which is the zero value, there is nothing to do.
func madeFor[K comparable](tell func(n *link.Network) (K, error), construct func(K) applyFunc) applyFunc {
	var made K
	var apply applyFunc
	return func(ctx context.Context, n *link.Network, changed link.NetworkChange) error {
		told, err := tell(n)
		if err != nil || told == *new(K) {
			return err
		}
		if apply == nil || told != made {
			made, apply, changed.Whole = told, construct(told), true
		}
		return apply(ctx, n, changed)
	}
}

// ranges are the cluster's own addresses.
type ranges struct{ pods, services netip.Prefix }

func rangesOf(n *link.Network) (r ranges, err error) {
	if r.pods, err = netip.ParsePrefix(n.Ranges.Pods); err != nil {
		return r, fmt.Errorf("pod range of the cluster: %w", err)
	}
	if r.services, err = netip.ParsePrefix(n.Ranges.Services); err != nil {
		return r, fmt.Errorf("service range of the cluster: %w", err)
	}
	return r, nil
}
