// Package podcontrol is what every controller that owns Pods shares: how a Pod is deleted and what its status means.
// It decides about no Pod. Start at Delete.
package podcontrol

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// Delete deletes a Pod: at once if no node can have it, else by a deletion timestamp, on which its node stops it, reports
// it removed, and so ends it. A Pod that is being deleted already is left alone.
func Delete(tx *state.Txn, pod *corev1.Pod, now time.Time) {
	if _, ok := state.Get[*corev1.Node](tx, state.Key{Name: pod.Spec.NodeName}); !ok {
		tx.Delete(pod)
		return
	}
	if pod.DeletionTimestamp == nil {
		tx.Update(object.Terminating(pod, now))
	}
}

// Finished says whether the Pod has run to its end and never runs again.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Active says whether the Pod runs or will run.
func Active(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil && !Finished(pod) }

// Ready says whether the Pod is Ready, and since when.
func Ready(pod *corev1.Pod) (since time.Time, ok bool) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}

// AvailableIn returns how long until a Ready Pod is available, 0 when it is. It is false for a Pod that is not Ready.
func AvailableIn(pod *corev1.Pod, minReady time.Duration, now time.Time) (time.Duration, bool) {
	since, ready := Ready(pod)
	if !ready {
		return 0, false
	}
	if minReady == 0 { // whatever the node's clock says
		return 0, true
	}
	return max(since.Add(minReady).Sub(now), 0), true
}

// Selects says whether a selector selects these labels. One that is nil, empty or invalid selects nothing, never
// everything. It is asked of every selector of a namespace, so it compiles only what labels alone do not decide.
func Selects(s *metav1.LabelSelector, set map[string]string) bool {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return false
	}
	for name, value := range s.MatchLabels {
		if have, ok := set[name]; !ok || have != value {
			return false
		}
	}
	if len(s.MatchExpressions) == 0 {
		return true
	}
	compiled, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && compiled.Matches(labels.Set(set))
}
