package gitsync_test

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestTimeToConvergeIsMeasuredOfWhatConverges(t *testing.T) {
	r := newRepo(t)
	registry := prometheus.NewRegistry()
	c := followWith(t, statetest.New(t), gitsync.Config{Repo: r.dir}, gitsync.NewMetrics(registry))
	first := r.put("a", "1")
	c.active(first)
	c.become(first, object.RevisionConverged)
	second := r.put("a", "2")
	c.active(second)
	c.become(second, object.RevisionFailed)
	third := r.put("a", "3")
	c.active(third)
	c.become(third, object.RevisionConverged)
	eventually(t, "measuring", func() bool { return measured(t, registry, "mainstay_revision_converge_seconds") == 2 })
}

// become does what the revision controller does.
func (c *cluster) become(commit, phase string) {
	c.t.Helper()
	_, err := c.store.Update(c.t.Context(), func(tx *state.Txn) error {
		rev, ok := state.Get[*object.Revision](tx, state.Key{Name: gitsync.RevisionName(commit)})
		if !ok {
			return errors.New("no revision " + commit)
		}
		rev = rev.DeepCopy()
		rev.Status.Phase = phase
		tx.SetStatus(rev)
		return nil
	})
	must(c.t, err)
}
