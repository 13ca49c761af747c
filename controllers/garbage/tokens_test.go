package garbage

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestTokenGoesADayAfterItsTime(t *testing.T) {
	expires := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	token := &object.JoinToken{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: object.JoinTokenSpec{Expires: metav1.NewTime(expires)}}
	for name, tc := range map[string]struct {
		now   time.Time
		again time.Duration
		left  int
	}{
		"good":         {now: expires.Add(-time.Hour), again: 25 * time.Hour, left: 1},
		"just expired": {now: expires.Add(time.Hour), again: 23 * time.Hour, left: 1},
		"long over":    {now: expires.Add(24 * time.Hour), left: 0},
	} {
		t.Run(name, func(t *testing.T) {
			store := statetest.New(t, token)
			var again time.Duration
			statetest.Update(t, store, func(tx *state.Txn) {
				var err error
				if again, err = tokens().Reconcile(tx, state.KeyOf(token), tc.now); err != nil {
					t.Fatal(err)
				}
			})
			if left := state.Len[*object.JoinToken](store.View()); left != tc.left || again != tc.again {
				t.Errorf("%d left, looked at again after %s, want %d and %s", left, again, tc.left, tc.again)
			}
		})
	}
}
