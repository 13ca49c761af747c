package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

// drain is how long answers may take to end once the process stops. Every request is told to at once, so this is for its last
// bytes; longer would be for connections alone: an HTTP/2 one may stay for a second after its last request, one that has not
// brought a request yet for five.
const drain = 300 * time.Millisecond

// serve answers on listener until ctx ends.
func (s *server) serve(ctx context.Context, listener net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.api.Run(ctx) })
	g.Go(func() error { return s.serveBoth(ctx, listener) })
	return g.Wait()
}

// web is the API and this server's metrics, to be served on one listener.
func (s *server) web() *http.Server {
	handler := http.NewServeMux()
	handler.Handle("/", s.api)
	handler.Handle("GET /metrics", only(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}), pki.GroupViewers))
	return &http.Server{Handler: current(s.unlessRevoked(handler), s.self.Worth), TLSConfig: s.self.ServerTLS(), HTTP2: leanTables()}
}

// leanTables bounds what a connection keeps of headers that were seen on it, which is 10 KiB otherwise: thousands of agents hold one
// each. There is room for what an agent sends with every request, and for little of what the server answers.
func leanTables() *http.HTTP2Config {
	return &http.HTTP2Config{MaxDecoderHeaderTableSize: 1 << 10, MaxEncoderHeaderTableSize: 1 << 8}
}

// headTimeout is how long the head of a request may take.
const headTimeout = 10 * time.Second

// serveTLS answers on listener, in TLS as web wants it, until ctx ends.
func serveTLS(ctx context.Context, web *http.Server, listener net.Listener, log *slog.Logger) error {
	return serveOn(ctx, web, tls.NewListener(listener, web.TLSConfig.Clone()), log)
}

// serveOn answers on a listener of TLS connections until ctx ends.
func serveOn(ctx context.Context, web *http.Server, listener net.Listener, log *slog.Logger) error {
	web.ReadHeaderTimeout = headTimeout
	web.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // handshakes that fail are the client's affair
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := web.Shutdown(stopping); err != nil {
			return web.Close()
		}
		return nil
	})
	return g.Wait()
}

// only lets those in who bring a certificate of one of the groups.
func only(next http.Handler, groups ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "bring a certificate of this cluster: the kubeconfig holds one", http.StatusUnauthorized)
			return
		}
		for _, group := range r.TLS.VerifiedChains[0][0].Subject.Organization {
			if slices.Contains(groups, group) {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "this is for "+strings.Join(groups, " and ")+" only", http.StatusForbidden)
	})
}

// judge says what a connection is still worth by the chain that was verified when it was made.
type judge func(chain []*x509.Certificate, now time.Time) pki.Worth

// current holds long-lived connections to the certificates they were made with: TLS looks at one only when a connection
// begins. Nodes and servers renew theirs at half of its life, and when the authority is rotated, so from then on their connections
// are ended in good order, and the next one shows the new certificate; with one that nobody accepts any more, nobody is answered.
func current(next http.Handler, worth judge) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			chain := r.TLS.VerifiedChains[0]
			switch worth(chain, time.Now()) {
			case pki.WorthNothing:
				w.Header().Set("Connection", "close")
				http.Error(w, "the certificate has expired, or is of an authority that is trusted no more", http.StatusUnauthorized)
				return
			case pki.WorthRenewing:
				if who := chain[0].Subject.Organization; slices.Contains(who, pki.GroupNodes) || slices.Contains(who, pki.GroupServers) {
					w.Header().Set("Connection", "close")
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}
