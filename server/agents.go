package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

// agents reaches agents at https://<node name>: where the node said that it is, and nowhere but at that node, for its name
// must be in the certificate.
func (s *server) agents() http.RoundTripper {
	return &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		node, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("reach an agent: %w", err)
		}
		at, err := s.agentAddress(node)
		if err != nil {
			return nil, err
		}
		config := s.self.ClientTLS()
		config.ServerName = pki.NodeHost(node)
		dialer := tls.Dialer{Config: config}
		return dialer.DialContext(ctx, network, at)
	}}
}

func (s *server) agentAddress(node string) (string, error) {
	return api.AgentAddress(s.store.View(), node)
}
