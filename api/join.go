package api

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// maxJoinBody bounds what somebody without a certificate may send: a token and a certificate request are far below.
const maxJoinBody = 16 << 10

// join takes in whoever brings a token: it is the one endpoint that asks for nothing else.
func (a *API) join(w http.ResponseWriter, r *http.Request) error {
	if a.Join == nil {
		return notFound(r.URL.Path)
	}
	if r.Method != http.MethodPost {
		return methodNotAllowed("joining is a POST")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxJoinBody)
	if done, err := a.passOn(w, r, Identity{}); done {
		return err
	}
	return answer(w, r, func(ctx context.Context, req link.JoinRequest) (any, error) {
		return a.Join(ctx, req, remote(r))
	})
}

// renew signs the certificate of the node that asks anew.
func (a *API) renew(w http.ResponseWriter, r *http.Request, id Identity) error {
	if a.Renew == nil {
		return notFound(r.URL.Path)
	}
	return answer(w, r, func(ctx context.Context, req link.RenewRequest) (any, error) {
		return a.Renew(ctx, id.Name, id.Machine, req, remote(r))
	})
}

// remote is where a request came from; the zero address if that is not an IP address.
func remote(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}
