package replicaset

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// surplus picks the n Pods to delete, in Kubernetes' order of preference.
func surplus(r state.Reader, rs *appsv1.ReplicaSet, active []*corev1.Pod, n int) []*corev1.Pod {
	if n >= len(active) {
		return active
	}
	together := related(r, rs)
	ranked := slices.Clone(active)
	slices.SortStableFunc(ranked, func(a, b *corev1.Pod) int {
		return cmp.Or(
			falseFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""),
			cmp.Compare(phaseOrder(a), phaseOrder(b)),
			falseFirst(ready(a), ready(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(together[b.Spec.NodeName], together[a.Spec.NodeName]),
			laterFirst(readySince(a), readySince(b)),
			cmp.Compare(restarts(b), restarts(a)),
			laterFirst(a.CreationTimestamp.Time, b.CreationTimestamp.Time),
			strings.Compare(string(a.UID), string(b.UID)),
		)
	})
	return ranked[:n]
}

// related counts by node the active Pods of all ReplicaSets with the same controller: those of one Deployment.
func related(r state.Reader, rs *appsv1.ReplicaSet) map[string]int {
	sets := []*appsv1.ReplicaSet{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		sets = slices.Collect(state.ListBy(r, tables.ReplicaSetsByOwner, string(ref.UID)))
	}
	count := map[string]int{}
	for _, set := range sets {
		for _, pod := range owned(r, set, podcontrol.Active) {
			count[pod.Spec.NodeName]++
		}
	}
	return count
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// laterFirst puts an unknown time before all others.
func laterFirst(a, b time.Time) int {
	if a.IsZero() || b.IsZero() {
		return falseFirst(!a.IsZero(), !b.IsZero())
	}
	return b.Compare(a)
}

func phaseOrder(pod *corev1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

func ready(pod *corev1.Pod) bool {
	_, ok := podcontrol.Ready(pod)
	return ok
}

func readySince(pod *corev1.Pod) time.Time {
	since, ok := podcontrol.Ready(pod)
	if !ok {
		return time.Time{}
	}
	return since
}

// deletionCost is what the Pod's annotation says, 0 without one; Kubernetes takes a malformed one as 0 too.
func deletionCost(pod *corev1.Pod) int32 {
	cost, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(cost)
}

func restarts(pod *corev1.Pod) int32 {
	most := int32(0)
	for i := range pod.Status.ContainerStatuses {
		most = max(most, pod.Status.ContainerStatuses[i].RestartCount)
	}
	return most
}
