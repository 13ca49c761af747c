package server

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// advertised is the host:port by which others reach the API: what the user says, else the address listened on, else the one
// this host reaches others by.
func advertised(configured string, listener net.Listener) (string, error) {
	addr := listener.Addr().(*net.TCPAddr)
	if configured != "" {
		host, port, err := net.SplitHostPort(configured)
		if err != nil || host == "" || port == "" {
			return "", fmt.Errorf("--advertise must be HOST:PORT, as others reach this server, not %q", configured)
		}
		return configured, nil
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = node.HostIP().String()
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port)), nil
}

// endpoint is where Pods reach the API: the advertised address if it is one, else the one listened on; empty if nobody
// reaches it from outside of this machine.
func (s *server) endpoint(listener net.Listener) string {
	if at, err := netip.ParseAddrPort(s.advertise); err == nil {
		if at.Addr().IsLoopback() {
			return ""
		}
		return at.String()
	}
	addr := listener.Addr().(*net.TCPAddr)
	ip := s.listening
	if ip.IsUnspecified() {
		ip = node.HostIP()
	}
	return netip.AddrPortFrom(ip, uint16(addr.Port)).String()
}

// certifyService makes this server's certificate good for the names and the address by which Pods reach the API.
func (s *server) certifyService(ctx context.Context) error {
	known := func(r state.Reader) bool { return plan.LiveCluster(r) != nil }
	if err := await(ctx, s.store, known); err != nil {
		return err
	}
	hosts := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	cidr := cmp.Or(plan.LiveCluster(s.store.View()).Spec.ServiceCIDR, kube.DefaultServiceCIDR)
	if services, err := netip.ParsePrefix(cidr); err == nil { // a range that is none is the controllers' to tell of
		hosts = append(hosts, services.Masked().Addr().Next().String())
	}
	s.self.Also(hosts...)
	return nil
}

// announce records where this server is reached, for agents, Pods and the other servers.
func (s *server) announce(ctx context.Context) error {
	self := &object.Server{
		ObjectMeta: metav1.ObjectMeta{Name: s.id},
		Spec:       object.ServerSpec{Address: s.advertise, Endpoint: *s.forPods.Load(), Version: s.cfg.Version, Level: s.level},
	}
	_, err := s.store.Update(ctx, func(tx *state.Txn) error {
		before, ok := state.Get[*object.Server](tx, state.KeyOf(self))
		switch {
		case !ok:
			tx.Create(self)
		case !equality.Semantic.DeepEqual(before.Spec, self.Spec):
			after := before.DeepCopy()
			after.Spec = self.Spec
			tx.Update(after)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record where this server is reached: %w", err)
	}
	return nil
}
