package gitsync

import (
	"context"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/state"
)

// Warm keeps at hand what Follow will want on a server that does not lead: a copy of the newest commit, and its manifests decoded
// in c.Loader. It writes nothing to the store and decides nothing; what it cannot read it tries again. It ends with ctx, whose
// cause it returns, and must not share c.CacheDir with a Follow that runs.
func Warm(ctx context.Context, c Config, store *state.Store) error {
	src, err := open(c)
	if err != nil {
		return err
	}
	defer src.Close()
	f := &follower{Config: c, source: src, store: store}
	if f.repo, err = c.Location(); err != nil {
		return err
	}
	if f.Path, err = c.directory(); err != nil {
		return err
	}
	for {
		f.warm(ctx)
		select {
		case <-time.After(min(f.poll(), DefaultPoll)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// warm reads the head, if that has moved. Whoever leads says what is wrong with the repository.
func (f *follower) warm(ctx context.Context) {
	at, err := f.source.head(ctx, f.branch())
	if err != nil || at.hash == f.done {
		return
	}
	err = f.reread(ctx, at, func(c commit) error {
		tree, err := load.Git(c.objects, c.hash, f.Path)
		if err == nil {
			_, _, err = f.Loader.Load(ctx, tree)
		}
		return err
	})
	if err == nil {
		f.done = at.hash
	}
}
