package gitsync_test

import (
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// newerConfigMaps is a store of the next version, with which ConfigMaps came.
func newerConfigMaps(t *testing.T) *state.Store {
	t.Helper()
	kinds := object.Stored()
	for i := range kinds {
		if kinds[i].Kind == "ConfigMap" {
			kinds[i].Since = object.Level + 1
		}
	}
	return statetest.Run(t, state.New(tables.SchemaOf(kinds, object.Level+1), time.Now))
}

// While an older server is a member, a commit that needs more than it reads is not activated and says so where people look, and
// it is activated without a push once the cluster has gone over.
func TestACommitThatNotAllServersUnderstandWaits(t *testing.T) {
	r := newRepo(t)
	r.write("ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: first}\n")
	first := r.commit("what every server understands")
	c := follow(t, newerConfigMaps(t), gitsync.Config{Repo: r.dir})
	c.active(first)
	newer := r.put("a", "1")
	snap := c.failing("objects of kind ConfigMap need format level 2, and the cluster has reached 1: upgrade the other servers")
	if got := status(snap); value(snap, "a") != "" || got.Revision != gitsync.RevisionName(first) || revision(snap, newer) != nil {
		t.Errorf("a = %q, status = %+v, revision %v", value(snap, "a"), got, revision(snap, newer))
	}
	if _, err := c.store.Update(t.Context(), func(tx *state.Txn) error {
		raised := plan.LiveCluster(tx).DeepCopy()
		raised.Status.Level = object.Level + 1
		tx.SetStatus(raised)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	snap = c.until("activation", func(r state.Reader) bool { return value(r, "a") == "1" })
	if got := status(c.active(newer)).Error; got != "" {
		t.Errorf("it is in force, and the error stays: %s (%s)", got, status(snap).Error)
	}
}
