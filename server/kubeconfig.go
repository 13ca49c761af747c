package server

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

// kubeconfigEvery is how often the kubeconfig gets a new certificate: far less than a certificate's life.
const kubeconfigEvery = 24 * time.Hour

// keepKubeconfig writes <data-dir>/kubeconfig, and again every day, so that its certificate never expires.
func (s *server) keepKubeconfig(ctx context.Context) error {
	for {
		if err := s.writeKubeconfig(); err != nil {
			return err
		}
		select {
		case <-time.After(kubeconfigEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// writeKubeconfig replaces the file at once, so that no reader ever sees half of it.
func (s *server) writeKubeconfig() error {
	cert, key, err := s.authority.Issue(pki.Identity{Name: "viewer", Group: pki.GroupViewers})
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["mainstay"] = &clientcmdapi.Cluster{Server: "https://" + s.reachable, CertificateAuthorityData: s.authority.CertPEM()}
	config.AuthInfos["viewer"] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	config.Contexts["mainstay"] = &clientcmdapi.Context{Cluster: "mainstay", AuthInfo: "viewer"}
	config.CurrentContext = "mainstay"
	content, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	path := filepath.Join(s.cfg.DataDir, "kubeconfig")
	if err := replaceFile(path, content); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// reachableAddress is how clients on this machine reach a listener: an unspecified address is reached by loopback.
func reachableAddress(l net.Listener) string {
	addr := l.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(addr.Port))
	}
	return addr.String()
}
