package gitsync

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// Whoever writes the status of the Cluster writes all of it. What another writes while a commit is worked out is not lost.
func TestACommitDoesNotOverwriteWhatIsSaidOfTheClusterMeanwhile(t *testing.T) {
	for name, problems := range map[string][]object.Problem{"good": nil, "bad": {{Path: "a.yaml", Message: "no"}}} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(t, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}})
			f := &follower{store: store, repo: "r"}
			tries := 0
			statetest.Update(t, store, func(tx *state.Txn) {
				f.decide(tx, taken{problems: problems}, time.Now())
				if tries++; tries == 1 {
					statetest.Update(t, store, pauseEvictions)
				}
			})
			if got := plan.LiveCluster(store.View()).Status; len(got.Conditions) != 1 || got.Repo != "r" || tries != 2 {
				t.Errorf("after %d tries the status is %+v", tries, got)
			}
		})
	}
}

func pauseEvictions(tx *state.Txn) {
	cluster := plan.LiveCluster(tx).DeepCopy()
	cluster.Status.Conditions = []metav1.Condition{{Type: object.EvictionsPaused, Status: metav1.ConditionTrue}}
	tx.SetStatus(cluster)
}
