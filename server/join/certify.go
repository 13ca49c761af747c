package join

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// lookUpTime bounds how long it may take to find out which addresses a server's name has.
const lookUpTime = 2 * time.Second

// certify signs a node's certificate. It names the node and the address that the request came from, never what the request
// claims; not a loopback one, by which this machine's own processes reach the server.
func (g *Gate) certify(ctx context.Context, id pki.Identity, request string, from netip.Addr) ([]byte, error) {
	id.Group, id.Hosts = pki.GroupNodes, []string{pki.NodeHost(id.Name)}
	if from = from.Unmap(); from.IsValid() && !from.IsLoopback() && !g.mayBeServer(ctx, from) {
		id.Hosts = append(id.Hosts, from.String())
	}
	certificate, err := g.Authority.Sign([]byte(request), id)
	if errors.Is(err, pki.ErrRequest) {
		return nil, refuse(http.StatusBadRequest, err)
	}
	return certificate, err
}

// mayBeServer reports whether a server may be reached at an address: no node's certificate may be good there.
func (g *Gate) mayBeServer(ctx context.Context, addr netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	for server := range state.List[*object.Server](g.Store.View(), "") {
		for _, at := range []string{server.Spec.Address, server.Spec.Endpoint} {
			if at != "" && reaches(ctx, at, addr) {
				return true
			}
		}
	}
	return false
}

// reaches reports whether host:port may lead to an address. A name that nobody can resolve now may lead anywhere.
func reaches(ctx context.Context, at string, addr netip.Addr) bool {
	host, _, err := net.SplitHostPort(at)
	if err != nil {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap() == addr
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return err != nil || slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip.Unmap() == addr })
}
