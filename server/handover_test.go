package server

import (
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

// The others would miss a leader that is gone only after minutes: who leads before that was handed the lead.
func TestALeaderThatIsToldToEndHandsOverFirst(t *testing.T) {
	c := newTrioOf(t, map[string]string{"web.yaml": web}, time.Minute)
	old := c.leader(t)
	c.stop(t, old)
	next := c.leader(t, old)
	until(t, c.servers[next], "the cluster is known", func(r state.Reader) bool { return plan.LiveCluster(r) != nil })
	if c.servers[next].beats.Load() == nil {
		t.Error("it leads without its duties")
	}
}
