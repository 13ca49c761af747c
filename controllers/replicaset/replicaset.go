// Package replicaset keeps as many Pods as each ReplicaSet asks for: it adopts and releases by selector, creates what
// lacks, deletes the surplus in Kubernetes' order, and reports. It never looks at a Pod's containers. Start at reconcile.
package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// burst is how many Pods one transaction creates or deletes at most: Kubernetes' number, and 1 MB of log. Each transaction looks
// at all Pods there are, so where there are thousands it takes half as many again, up to burstMost.
const (
	burst     = 500
	burstMost = 5000
)

// workers hides the log's latency: transactions of different ReplicaSets share its entries.
const workers = 16

// Controller returns the ReplicaSet controller.
func Controller() engine.Controller {
	return engine.Controller{
		Name:    "replicaset",
		Workers: workers,
		Sources: []engine.Source{
			engine.Each(engine.Self[*appsv1.ReplicaSet]),
			engine.EachMany(ofPod),
		},
		Reconcile: reconcile,
	}
}

// ofPod names the ReplicaSet that a Pod belongs to, or those that might adopt it.
func ofPod(r state.Reader, pod *corev1.Pod, add func(state.Key)) {
	if metav1.GetControllerOfNoCopy(pod) != nil {
		if key, ok := engine.Owner[*corev1.Pod]("ReplicaSet")(pod); ok {
			add(key)
		}
		return
	}
	for rs := range state.List[*appsv1.ReplicaSet](r, pod.Namespace) {
		if podcontrol.Selects(rs.Spec.Selector, pod.Labels) {
			add(state.KeyOf(rs))
		}
	}
}

func reconcile(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
	rs, ok := state.Get[*appsv1.ReplicaSet](tx, key)
	if !ok || rs.DeletionTimestamp != nil {
		return 0, nil
	}
	active := claim(tx, rs)
	before := tx.Writes()
	missing := scale(tx, rs, active, now)
	if tx.Writes() > before {
		tx.Require(rs) // Replicas changed meanwhile? Then decide again.
	}
	next := report(tx, rs, now)
	if missing {
		return engine.Soon, nil
	}
	return next, nil
}

// scale creates Pods or deletes active ones, one burst of them at most. It says whether more remain to be.
func scale(tx *state.Txn, rs *appsv1.ReplicaSet, active []*corev1.Pod, now time.Time) (more bool) {
	diff, most := replicas(rs)-len(active), min(max(burst, len(active)/2), burstMost)
	switch {
	case diff > 0:
		create(tx, rs, min(diff, most), now)
	case diff < 0:
		remove(tx, rs, surplus(tx, rs, active, min(-diff, most)), now)
	}
	return max(diff, -diff) > most
}

// create makes n Pods. Nothing can refuse one: there are no quotas and no admission, the template was validated in its commit, and a
// name that was taken meanwhile only makes the transaction run again. So there is no condition ReplicaFailure, here or on a Deployment.
func create(tx *state.Txn, rs *appsv1.ReplicaSet, n int, now time.Time) {
	names := make([]string, n)
	for i := range n {
		pod := podcontrol.FromTemplate(&rs.Spec.Template, rs)
		tx.Create(pod)
		names[i] = pod.Name
	}
	say(tx, rs, "SuccessfulCreate", pods("Created", names), now)
}

func remove(tx *state.Txn, rs *appsv1.ReplicaSet, surplus []*corev1.Pod, now time.Time) {
	names := make([]string, len(surplus))
	for i, pod := range surplus {
		podcontrol.Delete(tx, pod, now)
		names[i] = pod.Name
	}
	say(tx, rs, "SuccessfulDelete", pods("Deleted", names), now)
}

// owned lists the Pods of rs that satisfy which.
func owned(r state.Reader, rs *appsv1.ReplicaSet, which func(*corev1.Pod) bool) []*corev1.Pod {
	var pods []*corev1.Pod
	for pod := range state.ListBy(r, tables.PodsByOwner, string(rs.UID)) {
		if which(pod) {
			pods = append(pods, pod)
		}
	}
	return pods
}

func replicas(rs *appsv1.ReplicaSet) int {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return int(*rs.Spec.Replicas)
}
