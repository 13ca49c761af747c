package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

// agentPort is where servers and monitoring find an agent, unless another process has it.
const agentPort = 7444

// listenForServers listens on the agent's port, or on any other if that is taken: servers are told which.
func listenForServers(ip netip.Addr) (net.Listener, error) {
	for _, port := range []uint16{agentPort, 0} {
		l, err := net.Listen("tcp", netip.AddrPortFrom(ip, port).String())
		switch {
		case err == nil:
			return l, nil
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return nil, fmt.Errorf("%s is not an address of this machine: give one by --node-ip", ip)
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("listen for servers: %w", err)
		}
	}
	return nil, fmt.Errorf("listen for servers: no port of %s is free", ip)
}

// serve answers servers that want logs, and monitoring, until ctx ends.
func (a *agent) serve(ctx context.Context, listener net.Listener, rt runtime.Runtime) error {
	handler := http.NewServeMux()
	handler.Handle("GET "+node.LogPath, only(node.LogHandler(rt), pki.GroupServers))
	handler.Handle("GET /metrics", only(promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}), pki.GroupServers, pki.GroupViewers))
	handler.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	return serveTLS(ctx, &http.Server{Handler: current(handler, a.identity.Worth), TLSConfig: a.identity.ServerTLS()}, listener, a.cfg.Log)
}
