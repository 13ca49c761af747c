package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

// drain is how long answers may take to end once the process stops. Every request is told to at once, so this is for its last
// bytes; longer would be for connections alone: an HTTP/2 one may stay for a second after its last request, one that has not
// brought a request yet for five.
const drain = 300 * time.Millisecond

// serve answers on listener until ctx ends.
func (s *server) serve(ctx context.Context, listener net.Listener) error {
	handler := http.NewServeMux()
	handler.Handle("/", s.api)
	handler.Handle("GET /metrics", only(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}), pki.GroupViewers))
	handler.Handle("GET "+node.LogPath, only(&s.logs, pki.GroupServers))
	web := &http.Server{
		Handler: handler, TLSConfig: s.self.ServerTLS(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes that fail are the client's affair
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.api.Run(ctx) })
	g.Go(func() error {
		if err := web.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
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

// logs serves containers' output once there is a runtime to read it from.
type logs struct{ handler atomic.Pointer[http.Handler] }

func (l *logs) serve(h http.Handler) { l.handler.Store(&h) }

// ServeHTTP implements http.Handler.
func (l *logs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handler := l.handler.Load()
	if handler == nil {
		http.Error(w, "the agent is not up yet", http.StatusServiceUnavailable)
		return
	}
	(*handler).ServeHTTP(w, r)
}
