// Package api is what a server says over HTTP: the Kubernetes read API, the plan, and the endpoints of node/link. Reading
// never writes and nothing here changes desired state: whatever is not a read is refused with where to make the change.
// It knows neither consensus nor Git; what it needs of them are functions in Config. Start at New and (*API).route.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

// Config is what an API needs. Only Store and Log are required.
type Config struct {
	Store *state.Store
	Log   *slog.Logger

	// ReadIndex returns once Store holds every write that was acknowledged anywhere before the call. Nil: it always does.
	ReadIndex func(ctx context.Context) error
	// Leader finds who takes what is written: this server if the address is "", else the one at it. The error says that nobody
	// does now. Nil: this server does.
	Leader func(ctx context.Context) (address string, err error)
	// Peers reaches other servers, at https://<address>, with this one's certificate. It is needed if Leader is.
	Peers http.RoundTripper
	// Ready says why this server does not know the whole cluster yet, e.g. while it recovers; nil when it does. Until
	// then no agent is told to stop anything. A nil func is always ready.
	Ready func() error
	// Plan says what the manifests of a request would do. Its result is sent as JSON. Nil: no plans.
	Plan func(ctx context.Context, req PlanRequest) (any, error)
	// Agents reaches agents for logs, at https://<node name>. Nil: no logs.
	Agents http.RoundTripper
	// Join takes a machine in that brings a token, from the address that its request came from. Nil: none is.
	Join func(ctx context.Context, req link.JoinRequest, from netip.Addr) (link.Membership, error)
	// Renew signs a node's certificate anew, for the same machine. Nil: it does not.
	Renew func(ctx context.Context, node, machine string, req link.RenewRequest, from netip.Addr) (link.Membership, error)
	// Servers answers what other servers ask, below ServerPrefix. Nil: nothing.
	Servers http.Handler
	// Members lists the servers, to be sent as JSON, without asking for a quorum. Nil: nobody may know.
	Members func(ctx context.Context) (any, error)
	// Seen is told each time a node shows that it lives. It must not block.
	Seen func(node string)
	// Authority is the mark of the cluster's authority, for agents; nil: they are told none.
	Authority func() string
	// Metrics takes the API's metrics; nil: they are kept nowhere.
	Metrics prometheus.Registerer
	// Version is Mainstay's own, for `kubectl version`.
	Version string
}

// API is an http.Handler. Safe for concurrent use.
type API struct {
	Config
	life       context.Context // ends with Run; every request's context ends with it
	end        context.CancelCauseFunc
	polls      polls
	network    network
	admissions chan admission // to admitThoseWaiting
	pages      pages
	limits     limits
	caughtUp   atomic.Bool // the store was current once
	metrics    *metrics
	documents  func() documents
}

// New makes an API. It answers at once; for nodes to hear of changes, Run must run.
func New(cfg Config) *API {
	life, end := context.WithCancelCause(context.Background())
	return &API{
		Config:     cfg,
		life:       life,
		end:        end,
		admissions: make(chan admission),
		metrics:    newMetrics(cfg.Metrics),
		documents:  sync.OnceValue(func() documents { return describe(served(cfg.Store)) }),
	}
}

// Run wakes the long polls of nodes, until ctx ends. Then it ends every watch, long poll and log stream, so that
// http.Server.Shutdown need not wait for them. It is called once.
func (a *API) Run(ctx context.Context) error {
	defer a.end(errEnding)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return follow(ctx, a, a.polls.begin, a.polls.podChanged) })
	g.Go(func() error { return follow(ctx, a, func(*state.Snapshot) {}, pullsOther) })
	g.Go(func() error { return a.network.run(ctx, a.Store) })
	g.Go(func() error { return a.admitThoseWaiting(ctx) })
	g.Go(func() error { return a.becomeCurrent(ctx) })
	return g.Wait()
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(a.life, func() { cancel(errEnding) })()
	out := &response{ResponseWriter: w}
	finish := a.metrics.start(r)
	if err := a.route(out, r.WithContext(ctx)); err != nil {
		a.refuse(out, r, err)
	}
	finish(out.code)
}
