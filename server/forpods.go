package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/state"
)

// servePods lets the Pods of this machine's node reach an API that listens on the loopback interface alone: at the address of
// their gateway, and nobody but them. An API that others reach, too, needs none of it.
func (s *server) servePods(ctx context.Context, node string) error {
	if *s.forPods.Load() != "" {
		return nil
	}
	pods, err := s.podRange(ctx, node)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.reachable)
	if err != nil {
		return fmt.Errorf("port of the API: %w", err)
	}
	at := net.JoinHostPort(pods.Masked().Addr().Next().String(), port)
	config := net.ListenConfig{Control: beforeItIsThere}
	listener, err := config.Listen(ctx, "tcp", at)
	if err != nil {
		s.log.Warn("Pods do not reach the API: default/kubernetes leads nowhere", "err", err)
		return nil
	}
	defer listener.Close()
	s.forPods.Store(&at)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.tellPods(ctx) })
	g.Go(func() error { return serveTLS(ctx, s.web(), &podsOnly{listener, pods}, s.log) })
	return g.Wait()
}

// tellPods has the cluster know where Pods reach this server, whether it leads or not.
func (s *server) tellPods(ctx context.Context) error {
	for wait := firstAsk; !s.known(s.store.View()); wait = min(2*wait, lastAsk) {
		if err := s.tell(ctx); err == nil {
			continue
		}
		if err := awaitFor(ctx, s.store, wait, s.known); err != nil {
			return err
		}
	}
	return nil
}

// podRange waits until the node has its part of the Pod range.
func (s *server) podRange(ctx context.Context, node string) (netip.Prefix, error) {
	var pods netip.Prefix
	err := await(ctx, s.store, func(r state.Reader) bool {
		if n, ok := state.Get[*corev1.Node](r, state.Key{Name: node}); ok {
			pods, _ = netip.ParsePrefix(n.Spec.PodCIDR) // invalid as long as it has none
		}
		return pods.IsValid()
	})
	return pods, err
}

// beforeItIsThere lets a socket have an address that the host gets with its first Pod.
func beforeItIsThere(_, _ string, c syscall.RawConn) (err error) {
	if controlled := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_FREEBIND, 1)
	}); controlled != nil {
		return controlled
	}
	return err
}

// podsOnly is a listener that nobody but Pods of a range gets through.
type podsOnly struct {
	net.Listener
	pods netip.Prefix
}

// Accept implements net.Listener.
func (l *podsOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok && l.pods.Contains(from.AddrPort().Addr().Unmap()) {
			return conn, nil
		}
		_ = conn.Close() // who is not meant to be here is owed no explanation
	}
}
