package object

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Terminating returns the Pod as it is from now on until its node has stopped it: with a deletion timestamp, on a whole second, and
// the grace that its spec gives, in seconds. One that is being deleted already is returned as it is.
func Terminating(pod *corev1.Pod, now time.Time) *corev1.Pod {
	if pod.DeletionTimestamp != nil {
		return pod
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	dying := pod.DeepCopy()
	at := metav1.NewTime(now.Truncate(time.Second).Add(time.Duration(grace) * time.Second))
	dying.DeletionTimestamp, dying.DeletionGracePeriodSeconds = &at, &grace
	return dying
}
