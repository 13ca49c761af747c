// Package routing is what an agent knows of the cluster's network, and who on the node puts it to use: it follows the
// servers by a long poll, lets what this node knows better of its own Pods come first, keeps it all for a restart without
// servers, and hands each change to the routers. It decides nothing about routes itself. Start at Follower.Run.
package routing

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

const (
	pollWait   = 30 * time.Second
	firstRetry = 200 * time.Millisecond
	maxRetry   = 10 * time.Second
	// checkEvery is how soon what somebody else removed from the node is put back.
	checkEvery = 5 * time.Second
)

// A Router puts what is known of the cluster's network to use on this node: routes to other nodes' Pods, addresses of
// Services, names, policies.
type Router struct {
	Name string // as logs and metrics call it
	// Apply brings this node in line with n, of which changed has changed since the call before; the first one is Whole. It is
	// never called twice at a time, and must keep no reference to the maps of n. After an error it is called again with Whole set.
	Apply func(ctx context.Context, n *link.Network, changed link.NetworkChange) error
}

// Config is what a Follower needs to know.
type Config struct {
	Node    string
	Client  *link.Client
	Routers []Router
	DataDir string // where the network is kept for restarts without servers; empty: it is not
	Ping    Ping   // finds out which nodes can be reached from here; nil: all are taken to be
	Log     *slog.Logger
	Metrics *prometheus.Registry // nil: none are registered
	// Troubled is told when Problem has another answer. Nil: nobody is.
	Troubled func()
}

// Follower follows the cluster's network. Its methods are safe for concurrent use.
type Follower struct {
	cfg     Config
	metrics metrics
	answers chan link.NetworkResponse
	known   chan struct{} // closed once the network is known

	mu     sync.Mutex
	told   *link.Network     // as servers said; route alone changes it; guarded by mu
	store  string            // as last answered; guarded by mu
	after  uint64            // as last answered; guarded by mu
	drains []*drain          // guarded by mu
	ailing map[string]string // why a router could not do its part, by its name; guarded by mu

	local *locals
	reach *reach
	wake  chan struct{} // capacity 1: local or reach has news

	unsaved chan struct{} // capacity 1: told is not as it was saved

	// The rest belongs to route.
	shown *link.Network // told, but for what this node knows better
}

// New makes a Follower. It does nothing until Run.
func New(cfg Config) *Follower {
	if cfg.Troubled == nil {
		cfg.Troubled = func() {}
	}
	wake := make(chan struct{}, 1)
	return &Follower{
		cfg: cfg, metrics: newMetrics(cfg.Metrics), answers: make(chan link.NetworkResponse), known: make(chan struct{}),
		told: link.NewNetwork(), local: newLocals(wake), reach: newReach(wake), ailing: map[string]string{}, wake: wake, unsaved: make(chan struct{}, 1), shown: link.NewNetwork(),
	}
}

// Run follows until ctx ends. What was programmed stays.
func (f *Follower) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	recalled, err := f.recall()
	if err != nil {
		f.cfg.Log.Warn("the network of the last run cannot be used; waiting for a server to tell it", "err", err)
	}
	g.Go(func() error { return f.poll(ctx) })
	g.Go(func() error { return f.route(ctx, recalled) })
	g.Go(func() error { return f.watch(ctx) })
	g.Go(func() error { return f.keep(ctx) })
	defer f.keepLast()
	return g.Wait()
}

// errPart is a change of something that this node does not know.
var errPart = errors.New("the server tells a part of what another store holds: asking for all of it")

// poll asks servers for changes and hands them on, one at a time.
func (f *Follower) poll(ctx context.Context) error {
	var failed time.Duration
	req := link.NetworkRequest{Node: f.cfg.Node, Wait: metav1.Duration{Duration: pollWait}}
	req.Store, req.After = f.toldUpTo()
	for ctx.Err() == nil {
		resp, err := f.cfg.Client.Network(ctx, req)
		if err == nil && resp.Store != req.Store && !resp.Whole {
			err, req.Store, req.After = errPart, "", 0
		}
		if err != nil {
			failed = min(max(2*failed, firstRetry), maxRetry)
			f.cfg.Log.Debug("the network is not told", "err", err, "again", failed)
			pause(ctx, failed)
			continue
		}
		failed, req.Store, req.After = 0, resp.Store, resp.Version
		select {
		case f.answers <- resp:
		case <-ctx.Done():
		}
	}
	return nil
}

func (f *Follower) toldUpTo() (store string, version uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.store, f.after
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// route hands every change to the routers, and has them look now and then whether all still stands.
func (f *Follower) route(ctx context.Context, change link.NetworkChange) error {
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for ok := true; ok; change, ok = f.next(ctx, check.C) {
		if f.isKnown() {
			f.apply(ctx, change)
			f.endDrains()
		}
	}
	return nil
}

// next waits for a reason to call the routers; false when ctx has ended.
func (f *Follower) next(ctx context.Context, check <-chan time.Time) (change link.NetworkChange, ok bool) {
	for {
		select {
		case <-ctx.Done():
			return link.NetworkChange{}, false
		case resp := <-f.answers:
			change = f.take(&resp)
		case <-f.wake:
			change = link.NetworkChange{Services: f.refreshKnown()}
			if f.isKnown() && len(change.Services) == 0 {
				f.endDrains() // whoever has begun to wait may not have to
			}
		case <-check:
			f.local.forgetOld(time.Now())
			return link.NetworkChange{}, true
		}
		if change.Whole || change.Peers || change.Policies || len(change.Services) > 0 {
			return change, true
		}
	}
}

// take merges an answer into what is known.
func (f *Follower) take(resp *link.NetworkResponse) link.NetworkChange {
	f.mu.Lock()
	change := f.told.Merge(resp)
	f.store, f.after = resp.Store, resp.Version
	f.mu.Unlock()
	if change.Whole || change.Peers || change.Policies || len(change.Services) > 0 {
		nudge(f.unsaved)
	}
	f.show(change)
	if change.Whole && !f.isKnown() {
		close(f.known)
	}
	return change
}

func (f *Follower) isKnown() bool {
	select {
	case <-f.known:
		return true
	default:
		return false
	}
}

// show brings what the routers see in line with what was told.
func (f *Follower) show(change link.NetworkChange) {
	shown := *f.told
	if change.Whole {
		shown.Slices = make(map[types.NamespacedName]map[string]*discoveryv1.EndpointSlice, len(f.told.Slices))
		change.Services = slices.Collect(maps.Keys(f.told.Slices))
	} else {
		shown.Slices = f.shown.Slices
	}
	f.shown = &shown
	for _, service := range change.Services {
		f.showService(service)
	}
}

func (f *Follower) showService(service types.NamespacedName) {
	told := f.told.Slices[service]
	if len(told) == 0 {
		delete(f.shown.Slices, service)
		return
	}
	svc := f.told.Services[service]
	all := make(map[string]*discoveryv1.EndpointSlice, len(told))
	for name, slice := range told {
		all[name] = slice
		if svc == nil || !svc.Spec.PublishNotReadyAddresses {
			all[name] = f.local.correct(slice)
		}
	}
	f.reach.around(svc, all)
	f.shown.Slices[service] = all
}

// refreshKnown shows the Services anew that have endpoints among the Pods of this node that have changed, or on nodes that
// are out of reach or back.
func (f *Follower) refreshKnown() (affected []types.NamespacedName) {
	pods, nodes := f.local.takeChanged(), f.reach.takeChanged()
	changed := func(e discoveryv1.Endpoint) bool {
		return e.TargetRef != nil && pods[e.TargetRef.UID] || e.NodeName != nil && nodes[*e.NodeName]
	}
	for service, byName := range f.told.Slices {
		for _, slice := range byName {
			if slices.ContainsFunc(slice.Endpoints, changed) {
				f.showService(service)
				affected = append(affected, service)
				break
			}
		}
	}
	return affected
}

// apply calls every router, side by side: a slow one must not hold up the others.
func (f *Follower) apply(ctx context.Context, change link.NetworkChange) {
	var all sync.WaitGroup
	for _, r := range f.cfg.Routers {
		all.Go(func() { f.applyOne(ctx, r, change) })
	}
	all.Wait()
}

func (f *Follower) applyOne(ctx context.Context, r Router, change link.NetworkChange) {
	f.mu.Lock()
	_, ails := f.ailing[r.Name]
	f.mu.Unlock()
	if ails {
		change = link.NetworkChange{Whole: true}
	}
	start := time.Now()
	err := r.Apply(ctx, f.shown, change)
	if ctx.Err() != nil {
		return
	}
	f.metrics.applied(r.Name, time.Since(start), err)
	f.note(r.Name, err)
}

// note remembers whether a router could do its part, and tells of a change.
func (f *Follower) note(router string, err error) {
	f.mu.Lock()
	was, ailed := f.ailing[router]
	delete(f.ailing, router)
	now := ""
	if err != nil {
		now = err.Error()
		f.ailing[router] = now
	}
	f.mu.Unlock()
	switch {
	case now == was && ailed == (err != nil):
		return
	case err != nil:
		f.cfg.Log.Error("the network is not as it should be on this node; trying again", "part", router, "err", err, "again", checkEvery)
	default:
		f.cfg.Log.Info("the network is as it should be again", "part", router)
	}
	f.cfg.Troubled()
}

// Problem says what on this node is not as the cluster's network should be; empty if all is.
func (f *Follower) Problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(f.ailing)) {
		parts = append(parts, name+": "+f.ailing[name])
	}
	return strings.Join(parts, "; ")
}

// Services returns a namespace's Services in the order of their names, and false as long as none can be known.
func (f *Follower) Services(namespace string) ([]*corev1.Service, bool) {
	if !f.isKnown() {
		return nil, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*corev1.Service
	for key, svc := range f.told.Services {
		if key.Namespace == namespace {
			list = append(list, svc)
		}
	}
	slices.SortFunc(list, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return list, true
}

// Known is closed once the network is known, from a server or from an earlier run.
func (f *Follower) Known() <-chan struct{} { return f.known }
