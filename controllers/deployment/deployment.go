// Package deployment rolls Pods from one template to the next by scaling ReplicaSets, within Kubernetes' bounds on surplus
// and unavailable Pods, and stops no healthy Pod before its successor's image is on the node. It touches no Pod itself.
// Start at reconcile.
package deployment

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
)

// workers hides the log's latency: transactions of different Deployments share its entries.
const workers = 8

// Controller returns the Deployment controller.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "deployment",
		Workers: workers,
		Sources: []engine.Source{
			engine.Each(engine.Self[*appsv1.Deployment]),
			engine.EachMany(ofReplicaSet),
			engine.EachMany(waitingFor),
		},
		Reconcile: reconcile,
	}
}

// rollout is one Deployment in one transaction.
type rollout struct {
	tx      *state.Txn
	now     time.Time
	d       *appsv1.Deployment       // as it was read; never changed
	sets    []*appsv1.ReplicaSet     // all of the Deployment's, oldest first, as this transaction leaves them
	current *appsv1.ReplicaSet       // the one of sets with the Deployment's template; nil if there is none yet
	status  *appsv1.DeploymentStatus // to be written
	said    []string                 // what was scaled, for one Event
	waits   string                   // for which images on which nodes; "" if for none
}

func reconcile(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
	d, ok := state.Get[*appsv1.Deployment](tx, key)
	if !ok || d.DeletionTimestamp != nil {
		return 0, nil
	}
	r := &rollout{tx: tx, now: now.Truncate(time.Second), d: d, status: d.Status.DeepCopy()}
	r.claim()
	r.find()
	r.notePause()
	if err := r.act(); err != nil {
		return 0, err
	}
	if tx.Writes() > 0 {
		tx.Require(d) // The template or the scale changed meanwhile? Then decide again.
	}
	r.say()
	return r.report(), nil
}

// act does one step of what is to be done; the changes it makes lead to the next.
func (r *rollout) act() error {
	if r.current != nil {
		r.annotateCurrent()
	}
	switch {
	case r.d.Spec.Paused:
		r.rescale()
		r.cleanUp()
	case r.current != nil && r.scaled():
		r.rescale()
	case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.recreate()
	case r.rolling():
		r.roll()
	default:
		return fmt.Errorf("strategy type %q is neither RollingUpdate nor Recreate", r.d.Spec.Strategy.Type)
	}
	return nil
}

func (r *rollout) rolling() bool {
	return r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType
}

// say writes one Event for all that was scaled.
func (r *rollout) say() {
	if len(r.said) == 0 {
		return
	}
	message := strings.Join(r.said, "; ")
	event.Emit(r.tx, event.Event{
		About: r.d, From: "deployment-controller", Type: corev1.EventTypeNormal, Reason: "ScalingReplicaSet", Message: message,
	}, r.now)
}
