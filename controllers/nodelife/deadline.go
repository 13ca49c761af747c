package nodelife

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// deadline is when a Pod has to leave a node with these taints, and for which of them; false if it may stay. A Pod that says
// nothing of a lost node stays for evictAfter: Kubernetes writes such tolerations into every Pod instead, which would make
// Pods differ from what Git declares.
func deadline(pod *corev1.Pod, taints []corev1.Taint, evictAfter time.Duration) (at time.Time, why *corev1.Taint, leaves bool) {
	for i := range taints {
		taint := &taints[i]
		if taint.Effect != corev1.TaintEffectNoExecute || taint.TimeAdded == nil {
			continue
		}
		stay, forever := stays(pod, taint, evictAfter)
		if forever {
			continue
		}
		from := taint.TimeAdded.Time
		if made := pod.CreationTimestamp.Time; made.After(from) { // bound to the node all the same: it has its time, too
			from = made
		}
		if end := from.Add(stay); !leaves || end.Before(at) {
			at, why, leaves = end, taint, true
		}
	}
	return at, why, leaves
}

// stays is how long a Pod tolerates one taint: as long as the first toleration of it says, as in Kubernetes.
func stays(pod *corev1.Pod, taint *corev1.Taint, evictAfter time.Duration) (stay time.Duration, forever bool) {
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if !t.ToleratesTaint(klog.Background(), taint, false) {
			continue
		}
		if t.TolerationSeconds == nil {
			return 0, true
		}
		return time.Duration(max(*t.TolerationSeconds, 0)) * time.Second, false
	}
	if ofLife(taint) {
		return evictAfter, false
	}
	return 0, false
}
