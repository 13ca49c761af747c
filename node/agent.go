// Package node is the agent: it runs the Pods that servers have bound to this node and reports what became of them. It
// never decides where Pods run, and stops one only on a positive instruction: without servers everything keeps running.
// Start at Run; all policy about one Pod is in next.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/routing"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// startsAtOnce saturates an engine on two cores without making a single Pod wait long behind others.
	startsAtOnce = 6
	// settleTime is what readiness probes get before the node registers with what they say.
	settleTime = time.Second
	// actAlone is how long workers wait for a server's word after the agent's start: what was deleted meanwhile should not
	// be restarted first, and what crashed must not wait long.
	actAlone = 2 * time.Second
	// silentIsNotReady is how long the engine may be silent before the node is not Ready and gets no more Pods: a restart of
	// the engine takes less. What runs there is left alone.
	silentIsNotReady = 20 * time.Second
)

// Config is what an agent needs to know.
type Config struct {
	Name    string     // of the node
	Cluster string     // id of the cluster
	Address string     // host:port where LogHandler is served; empty if it is not
	Version string     // of Mainstay, shown as the node's kubelet version
	NodeIP  netip.Addr // zero: HostIP
	DataDir string     // where the Pod range is kept for restarts without a server; empty: it is not
	Client  *link.Client
	// Learned is told where all servers are, whenever that changes; nil: nobody is.
	Learned func(servers []string)
	// Told is told by each poll which authority the servers have; nil: nobody is.
	Told    func(mark string)
	Runtime runtime.Runtime
	Routers []routing.Router     // put the cluster's network to use here
	Ping    routing.Ping         // see routing.Config
	Metrics *prometheus.Registry // nil: none are registered
	Log     *slog.Logger
}

// agent owns the workers.
type agent struct {
	cfg   Config
	tools *tools
	group *errgroup.Group
	pull  *puller
	act   func() // lets the workers act; may be called repeatedly
	store string // that the node is registered with; belongs to poll

	mu       sync.Mutex
	workers  map[types.UID]*worker // guarded by mu
	have     map[types.UID]string  // resourceVersion as last given by a server; guarded by mu
	buried   map[types.UID]uint64  // what a look before this number shows of a removed Pod is no longer so; guarded by mu
	heard    bool                  // a server has said which Pods it wants here; guarded by mu
	swept    map[types.UID]bool    // Pods of which only files were left; guarded by mu
	vitals   vitals                // guarded by mu
	answered time.Time             // when the engine last answered; guarded by mu
	network  runtime.Network       // as last given by a server; zero if none was; guarded by mu
	sent     corev1.NodeStatus     // the node's status as last sent; guarded by mu
	lost     chan struct{}         // capacity 1: a server answered that it does not know the node
	news     chan struct{}         // capacity 1: the node's status has something urgent to say
}

// Run is the agent. It returns nil when ctx ends, after everything it started has returned; containers keep running.
func Run(ctx context.Context, cfg Config) error {
	a, err := newAgent(cfg)
	if err != nil {
		return err
	}
	first, ok := a.firstLook(ctx)
	if !ok {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	a.group = g
	a.deliver(ctx, first)
	a.cfg.Log.Info("agent started", "node", cfg.Name, "engine", a.vitals.Info.Engine, "pods", len(first.Pods))
	for _, part := range []func(context.Context) error{
		func(ctx context.Context) error {
			return a.tools.looker.run(ctx, func(l look) { a.deliver(ctx, l) })
		},
		a.tools.looker.follow, a.tools.routes.Run, a.tools.reporter.run, a.tools.recorder.run, a.pull.run, a.poll, a.watchNode, a.actAlone,
	} {
		g.Go(func() error { return part(ctx) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("agent of node %s: %w", cfg.Name, err)
	}
	return nil
}

func newAgent(cfg Config) (*agent, error) {
	if cfg.Name == "" || cfg.Cluster == "" || cfg.Client == nil || cfg.Runtime == nil || cfg.Log == nil {
		return nil, errors.New("an agent needs a node name, a cluster id, a client, a runtime and a log")
	}
	m := newMetrics(cfg.Metrics)
	t := &tools{
		rt: cfg.Runtime, client: cfg.Client, node: cfg.Name, hostIPs: hostIPs(cfg.NodeIP),
		looker: newLooker(cfg.Runtime, cfg.Log, m), recorder: newRecorder(cfg.Name, cfg.Client, cfg.Log),
		reporter: newReporter(cfg.Name, cfg.Client, cfg.Log), slots: newSlots(startsAtOnce), execs: make(chan struct{}, maxExecs),
		metrics: m, log: cfg.Log, released: make(chan struct{}),
	}
	a := &agent{
		cfg: cfg, tools: t, act: sync.OnceFunc(func() { close(t.released) }), lost: make(chan struct{}, 1), news: make(chan struct{}, 1),
		pull: newPuller(cfg.Runtime, cfg.Log), vitals: vitals{Strain: strain{}},
		workers: map[types.UID]*worker{}, have: map[types.UID]string{}, buried: map[types.UID]uint64{}, swept: map[types.UID]bool{},
	}
	t.routes = routing.New(routing.Config{
		Node: cfg.Name, Client: cfg.Client, Routers: cfg.Routers, Ping: cfg.Ping, DataDir: cfg.DataDir, Log: cfg.Log, Metrics: cfg.Metrics, Troubled: a.tellNews,
	})
	t.reporter.acknowledged, t.reporter.lost, a.pull.changed = a.acknowledged, a.noticeLost, a.tellNews
	return a, nil
}

// firstLook waits for an engine that answers, since nothing can be done without. ok is false if ctx ended first.
func (a *agent) firstLook(ctx context.Context) (got look, ok bool) {
	var wait time.Duration
	begun, told := time.Now(), false
	for {
		info, err := a.info(ctx)
		if err == nil {
			a.vitals.Info, a.answered = info, time.Now()
			a.vitals.Strain.note(info.Room, a.answered)
			a.tools.allocatable = allocatable(info)
			a.recallNetwork(ctx)
			if got = a.tools.looker.once(ctx); got.Err == nil {
				return got, true
			}
			err = got.Err
		}
		if ctx.Err() != nil {
			return look{}, false
		}
		if wait == 0 {
			a.cfg.Log.Warn("the container engine does not answer; is it running?", "err", err)
		}
		if !told && time.Since(begun) >= silentIsNotReady {
			told = a.tellSilence(ctx, err)
		}
		wait = double(wait, firstRetry, maxRetry)
		if !pause(ctx, wait) {
			return look{}, false
		}
	}
}

func (a *agent) info(ctx context.Context) (runtime.Info, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errEngineSilent)
	defer cancel()
	info, err := a.cfg.Runtime.Info(ctx)
	architecture(&info)
	return info, err
}

// deliver hands a look to the workers, and gives what nobody cares for yet a worker of its own.
func (a *agent) deliver(ctx context.Context, l look) {
	a.noteEngine(l.Err)
	if l.Err != nil {
		a.cfg.Log.Debug("look at the engine", "err", l.Err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	shown := make(map[types.UID]bool, len(l.Pods))
	for _, p := range l.Pods {
		uid := p.Pod.UID
		shown[uid] = true
		if w := a.workers[uid]; w != nil {
			w.see(l.Number, p)
		} else if _, waits := a.have[uid]; waits || l.Number < a.buried[uid] {
			continue
		} else if p.Sandbox.ID == "" && len(p.Containers) == 0 {
			a.sweep(ctx, uid)
		} else {
			a.employ(ctx, newAdopter(a.tools, l.Number, p))
		}
	}
	for uid, w := range a.workers {
		if !shown[uid] {
			w.see(l.Number, runtime.Pod{})
		}
	}
	maps.DeleteFunc(a.buried, func(_ types.UID, n uint64) bool { return l.Number >= n })
}

// sweep removes the files of a Pod that has no containers any more, once a server has been heard and wants no such Pod here. The caller
// holds mu.
func (a *agent) sweep(ctx context.Context, uid types.UID) {
	if !a.heard || a.swept[uid] {
		return
	}
	a.swept[uid] = true
	a.group.Go(func() error {
		if err := a.cfg.Runtime.RemovePod(ctx, uid); err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("files of a pod that is gone cannot be removed", "uid", uid, "err", err)
		}
		return nil
	})
}

// employ starts a worker. The caller holds mu.
func (a *agent) employ(ctx context.Context, w *worker) {
	a.workers[w.ref.UID] = w
	if _, known := a.have[w.ref.UID]; !known {
		a.have[w.ref.UID] = ""
	}
	a.tools.metrics.pods.Set(float64(len(a.workers)))
	a.group.Go(func() error {
		w.run(ctx)
		if ctx.Err() == nil {
			a.dismissed(w)
		}
		return nil
	})
}

// dismissed deals with a Pod of which nothing is left: a server that wanted it removed is told so until it has taken note.
func (a *agent) dismissed(w *worker) {
	a.mu.Lock()
	delete(a.workers, w.ref.UID)
	a.tools.routes.EndLocal(w.ref.UID)
	a.tools.metrics.pods.Set(float64(len(a.workers)))
	a.buried[w.ref.UID] = a.tools.looker.fence()
	if w.desired.Gone {
		delete(a.have, w.ref.UID)
	}
	a.mu.Unlock()
	a.cfg.Log.Info("pod removed", "pod", w.ref.Namespace+"/"+w.ref.Name, "uid", w.ref.UID)
	if w.desired.Gone {
		a.tools.reporter.forget(w.ref.UID)
		return
	}
	a.tools.reporter.remove(w.ref)
}

// acknowledged forgets a removed Pod.
func (a *agent) acknowledged(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.workers[uid] == nil {
		delete(a.have, uid)
	}
}

// all returns the workers in a fixed order.
func (a *agent) all() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]*worker, 0, len(a.workers))
	for _, uid := range slices.Sorted(maps.Keys(a.workers)) {
		list = append(list, a.workers[uid])
	}
	return list
}

// actAlone lets the workers act if no server is heard.
func (a *agent) actAlone(ctx context.Context) error {
	if pause(ctx, actAlone) {
		a.act()
	}
	return nil
}
