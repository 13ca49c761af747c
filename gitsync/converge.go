package gitsync

import (
	"context"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// timeConvergence measures how long each revision that becomes active after a version takes until it runs, until ctx ends,
// whose cause it returns. The times in a Revision are whole seconds, so what it measures is when it sees them change.
func (f *follower) timeConvergence(ctx context.Context, after state.Version) error {
	feed := state.Changes[*object.Revision](f.store, after)
	buf := make([]state.Change[*object.Revision], 16)
	var last run
	for {
		n, err := feed.Next(ctx, buf)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // it fell behind: what it missed goes unmeasured
			feed, last = state.Changes[*object.Revision](f.store, f.store.View().Version), run{}
			continue
		}
		for _, c := range buf[:n] {
			if took, ok := last.saw(c, time.Now()); ok {
				f.metrics.converge.Observe(took.Seconds())
			}
		}
	}
}

// run is the revision that became active last, and when; its name is "" if it has converged or none has been seen.
type run struct {
	name  string
	since time.Time
}

// saw takes note of a change, and says how long the revision took if it is the one by which it converged.
func (r *run) saw(c state.Change[*object.Revision], now time.Time) (time.Duration, bool) {
	switch {
	case c.New == nil:
	case c.New.Status.Phase == object.RevisionActive && (c.Old == nil || c.Old.Status.Phase != object.RevisionActive):
		*r = run{c.New.Name, now}
	case c.New.Status.Phase == object.RevisionConverged && c.New.Name == r.name:
		took := now.Sub(r.since)
		*r = run{}
		return took, true
	}
	return 0, false
}
