package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// errOlder is why a server ends that reads less than the cluster may have written.
var errOlder = errors.New("this server is of an older version than the cluster has gone over to: upgrade it, and start it again")

// common is the newest format level that all servers read, those included that a token has let in. It is 0 until all have said.
func common(r state.Reader) int {
	lowest := 0
	for there := range state.List[*object.Server](r, "") {
		if there.Spec.Level == 0 {
			return 0
		}
		if lowest == 0 || there.Spec.Level < lowest {
			lowest = there.Spec.Level
		}
	}
	return lowest
}

// raiseLevel raises the cluster's format level whenever all servers read a newer one, until ctx ends. A server that is let in
// at the same moment and reads less is refused once it asks to be a member.
func (s *server) raiseLevel(ctx context.Context) error {
	buf := make([]state.Change[*object.Server], 16)
	for {
		snap := s.store.View()
		if common(snap) > tables.Level(snap) {
			if err := s.raiseOnce(ctx); err != nil {
				return err
			}
		}
		_, err := state.Changes[*object.Server](s.store, snap.Version).Next(ctx, buf)
		if err != nil && !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

func (s *server) raiseOnce(ctx context.Context) error {
	_, err := s.store.Update(ctx, func(tx *state.Txn) error {
		if cluster := plan.LiveCluster(tx); cluster != nil && common(tx) > tables.Level(tx) {
			raised := cluster.DeepCopy()
			raised.Status.Level = common(tx)
			tx.Require(cluster) // Its status has other writers.
			tx.SetStatus(raised)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("raise the cluster's format level: %w", err)
	}
	s.log.Info("all servers read a newer format: from now on older versions of Mainstay are refused", "level", tables.Level(s.store.View()))
	return nil
}
