package server

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
)

// P10: a server whose log was emptied is, once it is started again, what it was, by nobody's doing.
func TestAServerWhoseLogWasEmptiedComesBack(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, followers := c.followers(t)
	lost := followers[0]
	c.stop(t, lost)
	if err := os.Truncate(filepath.Join(c.sites[lost].data, "raft", "raft.db"), 0); err != nil {
		t.Fatal(err)
	}
	c.start(t, lost)
	until(t, c.servers[lost], "the cluster is known again", func(r state.Reader) bool {
		return plan.LiveCluster(r) != nil && state.Len[*object.Server](r) == 3
	})
	eventually(t, "it has no vote again", func() bool {
		members, err := c.servers[leader].raft.Servers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		voting := slices.DeleteFunc(slices.Clone(members), func(m raftlog.Server) bool { return !m.Voter || !m.Reached })
		return len(voting) == 3 && len(members) == 3
	})
	if kept, _ := filepath.Glob(filepath.Join(c.sites[lost].data, "raft", "damaged", "*", "raft.db")); len(kept) != 1 {
		t.Errorf("the log that was emptied was not kept: %q", kept)
	}
}
