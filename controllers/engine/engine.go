// Package engine runs controllers: a queue of keys, workers that call a pure Reconcile function inside a transaction, and
// followers that learn from the store's feeds which keys to look at again. It knows no kind and decides nothing.
// Start at Controller.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/state"
)

// Soon is what a Reconcile returns as `again` when it has more to write than belongs into one transaction.
const Soon = time.Millisecond

// A key that fails is tried again after retryFirst, then twice as long each time, up to retryMost.
const (
	retryFirst = 5 * time.Millisecond
	retryMost  = 30 * time.Second
)

// A key that takes long to decide, since it looks at thousands of objects, rests before it is looked at again, however many
// of them change meanwhile: restFactor times as long as it took, so that one key never takes more than a fifth of a core. What
// takes less than restFrom does not rest: a timer costs more than that.
const (
	restFactor = 4
	restFrom   = 5 * time.Millisecond
	restMost   = time.Second
)

// Reconcile brings what the object at key owns in line with it. It reads and writes only tx, may be called any number of
// times, for keys of objects that are gone too, and is called again after `again` if that is positive. An error discards
// the transaction; the key is tried again later.
type Reconcile func(tx *state.Txn, key state.Key, now time.Time) (again time.Duration, err error)

// Controller is a Reconcile function and what it depends on. One key is never reconciled twice at a time.
type Controller struct {
	Name      string // label of its metrics and log lines
	Workers   int    // how many keys at a time; 0 is 1
	Sources   []Source
	Reconcile Reconcile
}

// Run reconciles until ctx ends and returns its cause once everything it started has returned. Every key that a Source
// lists is reconciled once at the start.
func (c Controller) Run(ctx context.Context, store *state.Store, log *slog.Logger, metrics *Metrics) error {
	g, ctx := errgroup.WithContext(ctx)
	m := metrics.of(c.Name)
	q := newQueue(m.depth)
	defer context.AfterFunc(ctx, q.close)()
	for _, src := range c.Sources {
		g.Go(func() error { return c.follow(ctx, store, src, q.add) })
	}
	w := worker{Controller: c, store: store, log: log.With("controller", c.Name), metrics: m, queue: q}
	for range max(c.Workers, 1) {
		g.Go(func() error { return w.run(ctx) })
	}
	return g.Wait()
}

// follow adds the keys that src names, first of all objects, then of each that changes.
func (c Controller) follow(ctx context.Context, store *state.Store, src Source, add func(state.Key)) error {
	snap := store.View()
	src.list(snap, add)
	for {
		next := src.follow(store, snap.Version)
		err := error(nil)
		for err == nil {
			err = next(ctx, add)
		}
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
		// An object may have come and gone unseen, so its owner is to be found by listing the owners: list every source.
		snap = store.View()
		c.list(snap, add)
	}
}

func (c Controller) list(r state.Reader, add func(state.Key)) {
	for _, src := range c.Sources {
		src.list(r, add)
	}
}

// worker takes keys from the queue, one at a time. Several run on one value.
type worker struct {
	Controller
	store   *state.Store
	log     *slog.Logger
	metrics controllerMetrics
	queue   *queue
}

func (w *worker) run(ctx context.Context) error {
	for {
		key, ok := w.queue.get()
		if !ok {
			return context.Cause(ctx)
		}
		again, took, err := w.reconcile(ctx, key)
		if err == nil {
			w.queue.done(key, again, restAfter(took))
			continue
		}
		retry := w.queue.failed(key)
		if ctx.Err() == nil {
			w.report(key, err, retry)
		}
	}
}

// reconcile returns how long it took to decide besides, without what it took to write.
func (w *worker) reconcile(ctx context.Context, key state.Key) (again, took time.Duration, err error) {
	start := time.Now()
	_, err = w.store.Update(ctx, func(tx *state.Txn) (err error) {
		began := time.Now()
		again, err = w.Reconcile(tx, key, start)
		took += time.Since(began)
		return err
	})
	w.metrics.duration.Observe(time.Since(start).Seconds())
	return again, took, err
}

// restAfter is how long a key rests that took so long to decide.
func restAfter(took time.Duration) time.Duration {
	if took < restFrom {
		return 0
	}
	return min(restFactor*took, restMost)
}

// report says that a key failed. A lost race and a term that has not begun pass by themselves.
func (w *worker) report(key state.Key, err error, retry time.Duration) {
	w.metrics.errors.Inc()
	level := slog.LevelWarn
	if errors.Is(err, state.ErrConflict) || errors.Is(err, state.ErrNotLeader) {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, "reconcile failed", "key", key.String(), "err", err, "retry", retry)
}
