package gitsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// A local repository is looked at this often even if nothing happens: a look reads two small files, and network file
	// systems send no events.
	localPoll = 5 * time.Second
	// And this often where the kernel gives no watch.
	localPollBlind = time.Second
	// An error is looked at again after the first wait before it is believed: a reference may just be being moved.
	firstRetryLocal  = 100 * time.Millisecond
	firstRetryRemote = time.Second
	maxRetryLocal    = 5 * time.Second
	maxRetryRemote   = time.Minute
)

// Follow keeps the store at the head of the branch until ctx ends, whose cause it returns. It is a leader's duty: it begins
// when the store takes writes, and writes nothing for a head that was dealt with before. A commit that cannot be activated
// becomes a Rejected Revision; a repository that cannot be read becomes the Cluster's status.error, and all else stays as it is.
func Follow(ctx context.Context, c Config, store *state.Store, metrics *Metrics, log *slog.Logger) error {
	f, err := newFollower(c, store, metrics, log)
	if err != nil {
		return err
	}
	defer f.source.Close()
	if err := store.Leading(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if f.isLocal() {
		g.Go(func() error { return f.watch(ctx) })
	}
	before := store.View().Version
	g.Go(func() error { return f.timeConvergence(ctx, before) })
	g.Go(func() error { return f.run(ctx) })
	return g.Wait()
}

// follower is one term of Follow. All but hints and blind is for the goroutine of run.
type follower struct {
	Config
	source   source
	repo     string // for people
	store    *state.Store
	metrics  *Metrics
	log      *slog.Logger
	loader   *load.Loader
	hints    chan struct{} // capacity 1: a token, not a queue
	sighted  chan bool     // capacity 1: whether the watch works
	watching bool
	pace     pace
	done     plumbing.Hash // the head that was dealt with last
	failures int           // in a row
	failing  time.Time     // since when, if failures > 0
	told     string        // the error that was logged last
}

func newFollower(c Config, store *state.Store, metrics *Metrics, log *slog.Logger) (*follower, error) {
	repo, err := c.Location()
	if err != nil {
		return nil, err
	}
	if c.Path, err = c.directory(); err != nil {
		return nil, err
	}
	src, err := open(c)
	if err != nil {
		return nil, err
	}
	return &follower{
		Config: c, source: src, repo: repo, store: store, metrics: metrics, log: log.With("repo", repo), loader: cmp.Or(c.Loader, &load.Loader{}),
		hints: make(chan struct{}, 1), sighted: make(chan bool, 1),
	}, nil
}

func (f *follower) isLocal() bool {
	_, ok := f.source.(*localSource)
	return ok
}

// watch keeps a watch alive. Where there is none, polling alone finds every change, only later.
func (f *follower) watch(ctx context.Context) error {
	for wait := firstRetryLocal; ; wait = min(2*wait, maxRetryRemote) {
		// A source of its own: the watch shares nothing with run.
		src, err := open(f.Config)
		if err != nil {
			return err
		}
		put(f.sighted, true)
		err = src.watch(ctx, f.hints)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		put(f.sighted, false)
		hint(f.hints)
		if wait == firstRetryLocal {
			f.log.Warn("repository cannot be watched, polling instead", "err", err, "every", localPollBlind)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// put leaves the newest value in a channel of capacity 1. It is for the only sender.
func put[T any](to chan T, newest T) {
	select {
	case <-to:
	default:
	}
	to <- newest
}

// run looks, takes what it finds, and waits for the next occasion.
func (f *follower) run(ctx context.Context) error {
	for {
		wait := f.step(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-f.hints:
		case f.watching = <-f.sighted:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step looks once, deals with what it finds, and returns how long to wait for the next look if nothing happens.
func (f *follower) step(ctx context.Context) time.Duration {
	at, err := f.source.head(ctx, f.branch())
	switch {
	case err != nil:
		return f.failed(ctx, "look", err)
	case at.hash == f.done:
		return f.succeeded(ctx, at)
	}
	now := time.Now()
	since := f.metrics.ahead(now)
	if wait := f.pace.wait(now); wait > 0 {
		return wait // by then, only the newest head counts
	}
	if step, err := f.take(ctx, at, since); err != nil {
		return f.failed(ctx, step, err)
	}
	f.done = at.hash
	return f.succeeded(ctx, at)
}

// branch is the configured one, else the one that was followed before: a HEAD that moves to another branch does not
// move the cluster.
func (f *follower) branch() string {
	if f.Branch != "" {
		return f.Branch
	}
	if cluster := plan.LiveCluster(f.store.View()); cluster != nil && cluster.Status.Repo == f.repo {
		return cluster.Status.Branch
	}
	return ""
}

// succeeded forgets what went wrong and returns the time to the next poll.
func (f *follower) succeeded(ctx context.Context, at head) time.Duration {
	f.metrics.level()
	if f.told != "" {
		f.log.Info("repository can be read again", "branch", at.branch, "commit", short(at.hash))
	}
	f.failures, f.told = 0, ""
	if err := f.recordHead(ctx, at); err != nil {
		f.log.Debug("record the head", "err", err)
		return firstRetryRemote
	}
	switch {
	case !f.isLocal():
		return f.poll()
	case f.watching:
		return min(localPoll, f.poll())
	}
	return min(localPollBlind, f.poll())
}

// failed keeps everything as it is and returns when to try again.
func (f *follower) failed(ctx context.Context, step string, err error) time.Duration {
	if ctx.Err() != nil || errors.Is(err, state.ErrNotLeader) {
		return firstRetryRemote
	}
	if f.failures++; f.failures == 1 {
		f.failing = time.Now()
	}
	f.metrics.errors.WithLabelValues(step).Inc()
	first, most := firstRetryRemote, maxRetryRemote
	if f.isLocal() {
		first, most = firstRetryLocal, maxRetryLocal
	}
	wait := min(first<<min(f.failures-1, 16), most)
	if early := first - time.Since(f.failing); early > 0 {
		return early
	}
	text := redact(err.Error())
	if text != f.told {
		f.told = text
		f.log.Warn("repository cannot be taken in; what is active stays", "step", step, "err", text, "retry", wait)
	}
	if err := f.recordError(ctx, text); err != nil {
		f.log.Debug("record the error", "err", err)
	}
	return wait
}

// pace lets the first activations through at once and spaces out a flood of commits: burst at once, then one per interval.
type pace struct {
	spent time.Time // the bucket is full at this time
}

const (
	paceBurst    = 3
	paceInterval = time.Second
)

// wait is how long to wait before the next activation; 0 lets it through and counts it.
func (p *pace) wait(now time.Time) time.Duration {
	if p.spent.Before(now) {
		p.spent = now
	}
	if over := p.spent.Sub(now) - (paceBurst-1)*paceInterval; over > 0 {
		return over
	}
	p.spent = p.spent.Add(paceInterval)
	return 0
}

func short(hash plumbing.Hash) string { return hash.String()[:RevisionNameLen] }

// reread runs fn on the objects of a head, and once more on fresh ones if something is missing: a repository may be
// repacked under our hands, and a copy may be damaged.
func (f *follower) reread(ctx context.Context, at head, fn func(commit) error) error {
	err := errors.New("not read")
	for _, fresh := range []freshness{asItIs, rebuilt} {
		objects, openErr := f.source.objects(ctx, at, fresh)
		if openErr != nil {
			return openErr
		}
		c, readErr := readCommit(objects, at)
		if err = readErr; err == nil {
			err = fn(c)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("read commit %s: %w", short(at.hash), err)
}
