// Package disruption reports what each PodDisruptionBudget allows. It evicts nothing; who does works the numbers out anew,
// since a status may be older than the Pods. Start at reconcile.
package disruption

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/state"
)

const workers = 4

// Controller returns the PodDisruptionBudget controller.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "disruption",
		Workers: workers,
		Sources: []engine.Source{
			engine.Each(engine.Self[*policyv1.PodDisruptionBudget]),
			engine.EachMany(podcontrol.BudgetsOf),
			engine.EachMany(func(r state.Reader, d *appsv1.Deployment, add func(state.Key)) { budgetsIn(r, d.Namespace, add) }),
		},
		Reconcile: reconcile,
	}
}

// budgetsIn names all budgets of a namespace: how many replicas a workload wants may count in any of them.
func budgetsIn(r state.Reader, namespace string, add func(state.Key)) {
	for budget := range state.List[*policyv1.PodDisruptionBudget](r, namespace) {
		add(state.KeyOf(budget))
	}
}

func reconcile(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
	budget, ok := state.Get[*policyv1.PodDisruptionBudget](tx, key)
	if !ok || budget.DeletionTimestamp != nil {
		return 0, nil
	}
	room := podcontrol.RoomOf(tx, budget)
	changed := budget.DeepCopy()
	s := &changed.Status
	s.ObservedGeneration = budget.Generation
	s.ExpectedPods, s.CurrentHealthy, s.DesiredHealthy, s.DisruptionsAllowed = room.Expected, room.Healthy, room.Desired, room.Allowed
	condition := metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionTrue, Reason: policyv1.SufficientPodsReason,
		ObservedGeneration: budget.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	if room.Allowed == 0 {
		condition.Status, condition.Reason = metav1.ConditionFalse, policyv1.InsufficientPodsReason
	}
	apimeta.SetStatusCondition(&s.Conditions, condition)
	tx.SetStatus(changed)
	return 0, nil
}
