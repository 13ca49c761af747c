package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// loopbackPods is a Pod range that this host can speak from without any network.
var loopbackPods = map[string]string{"mainstay.yaml": "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: home}\nspec: {podCIDR: 127.77.0.0/16}\n"}

// An API that listens on loopback has a door for the Pods of its machine, to which default/kubernetes leads, and nobody else
// gets through it.
func TestPodsReachAnAPIThatListensOnLoopback(t *testing.T) {
	s, _ := newSite(t, loopbackPods).start(t)
	var at string
	until(t, s, "an endpoint of default/kubernetes", func(r state.Reader) bool {
		for slice := range state.ListBy(r, tables.SlicesByService, "default/kubernetes") {
			for _, e := range slice.Endpoints {
				at = netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), uint16(*portOf(slice))).String()
			}
		}
		return at != ""
	})
	node, _ := state.Get[*corev1.Node](s.store.View(), state.Key{Name: "n1"})
	if want := netip.MustParsePrefix(node.Spec.PodCIDR).Addr().Next(); netip.MustParseAddrPort(at).Addr() != want {
		t.Errorf("the endpoint is %s, want it at the Pods' gateway %s", at, want)
	}
	service, _ := state.Get[*corev1.Service](s.store.View(), state.Key{Namespace: "default", Name: "kubernetes"})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.authority.CertPEM())
	config := &tls.Config{RootCAs: pool, ServerName: service.Spec.ClusterIP}
	dial := func(from string) error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		conn, err := tls.DialWithDialer(&d, "tcp", at, config)
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	for _, name := range []string{service.Spec.ClusterIP, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"} {
		config.ServerName = name
		if err := dial("127.77.0.9"); err != nil {
			t.Errorf("a Pod: %v, want a handshake for %s", err, name)
		}
	}
	if err := dial("127.0.0.1"); err == nil {
		t.Error("somebody who is no Pod got through")
	}
}

func portOf(s *discoveryv1.EndpointSlice) *int32 { return s.Ports[0].Port }
