// Package dns answers the DNS questions of a node's Pods: names of Services and their endpoints as Kubernetes' DNS
// specification has them, and everything else by asking the host's own nameservers, through a cache. It listens on one
// address, that of the node in the range of its Pods, and keeps nothing on disk. It knows nothing but what Apply was last
// told, so it answers on while servers are away. While nobody listens, the kernel leads questions to other nodes: see Standby.
// Start at Server; what a name means is decided in table.find.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const (
	dnsPort = 53
	// retryListen spaces attempts to listen while something else has the port.
	retryListen = 5 * time.Second
)

// Config says what to serve.
type Config struct {
	Node       string               // the peer whose Pods are served, by name
	ResolvConf string               // names the nameservers that know all other names; /etc/resolv.conf if empty
	Port       uint16               // 53 if zero
	Metrics    *prometheus.Registry // nil: none are registered
	Log        *slog.Logger
}

// Server answers questions. Every method may be called concurrently, but for Apply, which is called by one at a time.
type Server struct {
	config   Config
	names    atomic.Pointer[table] // nil before the first Apply
	place    atomic.Pointer[place]
	failed   atomic.Pointer[error] // why Run cannot listen; nil: it does, or has no place yet
	upstream *upstream
	metrics  *metrics
}

var errLeft = errors.New("the node's Pods have another range now")

// place is where to listen.
type place struct {
	address netip.Addr    // zero: nowhere yet
	left    chan struct{} // closed when there is a newer place
}

// New returns a server that answers nothing before Run and Apply.
func New(config Config) *Server {
	if config.ResolvConf == "" {
		config.ResolvConf = "/etc/resolv.conf"
	}
	if config.Port == 0 {
		config.Port = dnsPort
	}
	s := &Server{config: config, upstream: newUpstream(config.ResolvConf), metrics: newMetrics(config.Metrics)}
	s.place.Store(&place{left: make(chan struct{})})
	return s
}

// Apply makes n what is answered from; it has the contract of a node's routers. Look-ups under way are not disturbed. Its error
// is also that of Run, which goes on trying: whoever applies is who tells of trouble.
func (s *Server) Apply(_ context.Context, n *link.Network, changed link.NetworkChange) error {
	next := newTable()
	if now := s.names.Load(); now != nil {
		next = now.fork()
	} else {
		changed.Whole = true
	}
	next.update(n, changed)
	s.names.Store(next)
	if err := s.move(n.Peers[s.config.Node].PodCIDR); err != nil {
		return err
	}
	if failed := s.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// move listens on the first address of a range of Pods from now on, unless it does already.
func (s *Server) move(podCIDR string) error {
	if podCIDR == "" {
		return nil // it will have one; none is ever taken away
	}
	pods, err := netip.ParsePrefix(podCIDR)
	if err != nil {
		return fmt.Errorf("pod range of node %s: %w", s.config.Node, err)
	}
	address, old := pods.Masked().Addr().Next(), s.place.Load()
	if address == old.address {
		return nil
	}
	s.place.Store(&place{address: address, left: make(chan struct{})})
	close(old.left)
	return nil
}

// Run serves until ctx ends, and then returns nil after the last answer was sent. While nothing is known of the node's
// Pods, or something else has the port, it waits.
func (s *Server) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		at := s.place.Load()
		var retry <-chan time.Time
		if at.address.IsValid() {
			err := s.serve(ctx, at)
			if err == nil {
				continue
			}
			s.failed.Store(&err)
			retry = time.After(retryListen)
		}
		select {
		case <-ctx.Done():
		case <-at.left:
		case <-retry:
		}
	}
	return nil
}

// serve returns nil when ctx has ended or the place is left.
func (s *Server) serve(ctx context.Context, at *place) error {
	address := netip.AddrPortFrom(at.address, s.config.Port)
	l, err := listen(ctx, address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; if another program has the port, have it leave out this address", address, err)
	}
	s.failed.Store(nil)
	s.config.Log.Info("names are answered", "address", address)
	if err := l.run(ctx, s, at.left); err != nil && !errors.Is(err, errLeft) {
		return fmt.Errorf("serve %s: %w", address, err)
	}
	return nil
}
