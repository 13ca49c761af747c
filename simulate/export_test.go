package simulate

import (
	"context"
	"time"

	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// Activate applies desired to a store for good.
func Activate(ctx context.Context, s *state.Store, cluster Cluster, desired []plan.Desired) error {
	f := fork{Cluster: cluster, store: s, now: time.Now()}
	return f.activate(ctx, desired, Commit{})
}

// CarryOut is Activate, and all that follows.
func CarryOut(ctx context.Context, s *state.Store, cluster Cluster, desired []plan.Desired) error {
	f := fork{Cluster: cluster, store: s, now: time.Now()}
	if err := f.activate(ctx, desired, Commit{}); err != nil {
		return err
	}
	return f.settle(ctx)
}
