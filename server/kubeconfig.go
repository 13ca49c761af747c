package server

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// kubeconfigEvery is how often the kubeconfig gets a new certificate: far less than a certificate's life.
const kubeconfigEvery = 24 * time.Hour

// keepKubeconfig writes <data-dir>/kubeconfig, and again when servers come or go, and every day, so that its certificate never
// expires.
func (s *server) keepKubeconfig(ctx context.Context) error {
	for ctx.Err() == nil {
		known := tables.ServerAddresses(s.store.View())
		if err := s.writeKubeconfig(); err != nil {
			return err
		}
		others := func(r state.Reader) bool { return !slices.Equal(tables.ServerAddresses(r), known) }
		if err := awaitFor(ctx, s.store, kubeconfigEvery, others); err != nil {
			return nil
		}
	}
	return nil
}

// writeKubeconfig replaces the file at once, so that no reader ever sees half of it.
func (s *server) writeKubeconfig() error {
	cert, key, err := s.authority.Issue(pki.Identity{Name: "viewer", Group: pki.GroupViewers})
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["mainstay"] = &clientcmdapi.Cluster{Server: "https://" + s.reachable, CertificateAuthorityData: s.authority.TrustPEM()}
	config.AuthInfos["viewer"] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["mainstay"] = &clientcmdapi.Context{Cluster: "mainstay", AuthInfo: "viewer"}
	config.CurrentContext = "mainstay"
	s.addServers(config)
	content, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	path := filepath.Join(s.cfg.DataDir, "kubeconfig")
	if err := durable.ReplaceFile(path, content); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// addServers names every server as others reach it, if there are several or the file is of use elsewhere: kubectl takes one at a
// time, as a context of its own; our own commands ask them all.
func (s *server) addServers(config *clientcmdapi.Config) {
	for there := range state.List[*object.Server](s.store.View(), "") {
		if there.Spec.Pending || there.Spec.Address == s.reachable {
			continue
		}
		name := "mainstay-" + there.Name
		config.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + there.Spec.Address, CertificateAuthorityData: s.authority.TrustPEM()}
		config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: "viewer"}
	}
}

// reachableAddress is how clients on this machine reach a listener: an unspecified address is reached by loopback.
func reachableAddress(l net.Listener) string {
	addr := l.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(addr.Port))
	}
	return addr.String()
}
