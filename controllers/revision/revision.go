// Package revision says how far the cluster has come with the revision that is in force: Converged once every workload the
// repository declares is up to date and available, Failed when one missed its deadline, and until then for what it waits.
// It changes nothing but Revisions. Start at reconcile.
package revision

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// kept is how many Revisions there are at most.
const kept = 100

var current = state.Key{Name: "current"}

// Controller returns the Revision controller.
func Controller() engine.Controller {
	return engine.Controller{
		Name: "revision",
		Sources: []engine.Source{
			engine.Each(engine.To[*object.Cluster](current)),
			engine.Each(engine.To[*object.Revision](current)),
			engine.Each(engine.To[*appsv1.Deployment](current)),
			engine.Each(func(rs *appsv1.ReplicaSet) (state.Key, bool) {
				return current, metav1.GetControllerOfNoCopy(rs) == nil // a Deployment's says by its Deployment how it does
			}),
			engine.Each(func(pod *corev1.Pod) (state.Key, bool) {
				return current, metav1.GetControllerOfNoCopy(pod) == nil || stuck(pod) != ""
			}),
			engine.Each(func(e *corev1.Event) (state.Key, bool) { return current, e.Reason == unhealthy }),
			engine.Each(func(node *corev1.Node) (state.Key, bool) {
				return current, node.Annotations[object.PullAnnotation] != "" // how a pull goes is what a bare Pod may wait for
			}),
		},
		Reconcile: reconcile,
	}
}

func reconcile(tx *state.Txn, _ state.Key, now time.Time) (time.Duration, error) {
	inForce := ""
	for c := range state.List[*object.Cluster](tx, "") {
		inForce = c.Status.Revision
	}
	forget(tx, inForce)
	rev, ok := state.Get[*object.Revision](tx, state.Key{Name: inForce})
	if !ok || rev.Status.Phase != object.RevisionActive && rev.Status.Phase != object.RevisionFailed {
		return 0, nil
	}
	judged := rev.DeepCopy()
	judge(&judged.Status, unfinished(tx), metav1.NewTime(now.Truncate(time.Second)))
	tx.SetStatus(judged)
	return 0, nil
}

// judge sets phase and message by the workloads that are not finished. A failed revision stays so until it converges: what
// failed once is not hopeful again because something else moves.
func judge(status *object.RevisionStatus, open []workload, now metav1.Time) {
	failed := slices.IndexFunc(open, func(w workload) bool { return w.failed })
	switch {
	case len(open) == 0:
		status.Phase, status.Message, status.EndedAt = object.RevisionConverged, "", &now
	case failed >= 0:
		if status.Phase != object.RevisionFailed {
			status.EndedAt = &now
		}
		status.Phase, status.Message = object.RevisionFailed, open[failed].say()
	default:
		status.Message = open[0].say()
		if more := len(open) - 1; more > 0 {
			status.Message += fmt.Sprintf(" (and %d more)", more)
		}
	}
}

// forget deletes the oldest Revisions beyond those kept, never the one in force.
func forget(tx *state.Txn, inForce string) {
	surplus := state.Len[*object.Revision](tx) - kept
	if surplus <= 0 {
		return
	}
	all := slices.SortedFunc(state.List[*object.Revision](tx, ""), func(a, b *object.Revision) int {
		return cmp.Or(cmp.Compare(a.Spec.Sequence, b.Spec.Sequence), a.CreationTimestamp.Compare(b.CreationTimestamp.Time))
	})
	for _, rev := range all {
		if surplus > 0 && rev.Name != inForce {
			tx.Delete(rev)
			surplus--
		}
	}
}
