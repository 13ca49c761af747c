package garbage

import (
	"time"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// tokenKept is how long a join token stays after its time, so that who brings it hears that it is over, not that it never was.
const tokenKept = 24 * time.Hour

// tokens deletes join tokens that are over.
func tokens() engine.Controller {
	return engine.Controller{
		Name:    "garbage-tokens",
		Sources: []engine.Source{engine.Each(engine.Self[*object.JoinToken])},
		Reconcile: func(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
			token, ok := state.Get[*object.JoinToken](tx, key)
			if !ok {
				return 0, nil
			}
			if left := token.Spec.Expires.Add(tokenKept).Sub(now); left > 0 {
				return left, nil
			}
			tx.Delete(token)
			return 0, nil
		},
	}
}
