package podcontrol

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/state"
)

// Room is what a PodDisruptionBudget allows now, in numbers of Pods.
type Room struct {
	Expected int32 // there are when all is well
	Healthy  int32 // are Ready now
	Desired  int32 // must be
	Allowed  int32 // may be evicted
}

// RoomOf works out what a budget allows. What is expected comes from the Pods' workloads, where the budget speaks of a part
// of them; Pods without a workload count only against a minimum in numbers, as in Kubernetes.
func RoomOf(r state.Reader, budget *policyv1.PodDisruptionBudget) Room {
	var room Room
	selector := budgetSelector(budget)
	scales := map[types.UID]int32{}
	for pod := range state.List[*corev1.Pod](r, budget.Namespace) {
		if !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if uid, scale, ok := workload(r, pod); ok {
			scales[uid] = scale
		}
		if Finished(pod) {
			continue
		}
		room.Expected++
		if _, ready := Ready(pod); ready && Active(pod) {
			room.Healthy++
		}
	}
	scaled := int32(0)
	for _, scale := range scales {
		scaled += scale
	}
	switch least, most := budget.Spec.MinAvailable, budget.Spec.MaxUnavailable; {
	case most != nil:
		room.Expected = scaled
		room.Desired = max(scaled-share(most, scaled), 0)
	case least != nil && least.Type == intstr.String:
		room.Expected = scaled
		room.Desired = share(least, scaled)
	case least != nil:
		room.Desired = least.IntVal
	}
	if room.Expected > 0 {
		room.Allowed = max(room.Healthy-room.Desired, 0)
	}
	return room
}

// share is a number, or a percentage of all rounded up.
func share(value *intstr.IntOrString, all int32) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(value, int(all), true)
	if err != nil {
		return all // refused when it was declared
	}
	return int32(n)
}

// budgetSelector selects nothing where there is none, and everything where it is empty.
func budgetSelector(budget *policyv1.PodDisruptionBudget) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// workload is what a Pod belongs to, and how many Pods that wants.
func workload(r state.Reader, pod *corev1.Pod) (types.UID, int32, bool) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return "", 0, false
	}
	rs, ok := state.Get[*appsv1.ReplicaSet](r, state.Key{Namespace: pod.Namespace, Name: ref.Name})
	if !ok || rs.UID != ref.UID {
		return "", 0, false
	}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		d, ok := state.Get[*appsv1.Deployment](r, state.Key{Namespace: pod.Namespace, Name: ref.Name})
		if !ok || d.UID != ref.UID {
			return "", 0, false
		}
		return d.UID, replicasOf(d.Spec.Replicas), true
	}
	return rs.UID, replicasOf(rs.Spec.Replicas), true
}

func replicasOf(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// BudgetsOf adds the keys of the budgets that speak of a Pod.
func BudgetsOf(r state.Reader, pod *corev1.Pod, add func(state.Key)) {
	for budget := range state.List[*policyv1.PodDisruptionBudget](r, pod.Namespace) {
		if budgetSelector(budget).Matches(labels.Set(pod.Labels)) {
			add(state.KeyOf(budget))
		}
	}
}

// Budgets is what all budgets allow within one transaction that evicts Pods. It is for one goroutine.
type Budgets struct {
	reader state.Reader
	rooms  map[state.Key]*Room
}

// NewBudgets looks at the budgets of r when they are first asked for.
func NewBudgets(r state.Reader) *Budgets { return &Budgets{reader: r, rooms: map[state.Key]*Room{}} }

// Refuse names a budget that does not allow to evict the Pod now. If all do, it is "" and the Pod counts as evicted.
func (b *Budgets) Refuse(pod *corev1.Pod) string {
	if !Active(pod) || pod.Status.Phase == corev1.PodPending {
		return "" // nobody is served by it
	}
	var rooms []*Room
	var refusing string
	_, ready := Ready(pod)
	BudgetsOf(b.reader, pod, func(key state.Key) {
		budget, _ := state.Get[*policyv1.PodDisruptionBudget](b.reader, key)
		room := b.room(key, budget)
		if !ready && mayGoUnhealthy(budget, room) {
			return
		}
		if room.Allowed < 1 {
			refusing = key.Name
		}
		rooms = append(rooms, room)
	})
	if refusing != "" {
		return refusing
	}
	for _, room := range rooms {
		room.Allowed--
		room.Healthy--
	}
	return ""
}

func (b *Budgets) room(key state.Key, budget *policyv1.PodDisruptionBudget) *Room {
	if b.rooms[key] == nil {
		room := RoomOf(b.reader, budget)
		b.rooms[key] = &room
	}
	return b.rooms[key]
}

// mayGoUnhealthy says whether a Pod that is not Ready may be evicted whatever the budget allows.
func mayGoUnhealthy(budget *policyv1.PodDisruptionBudget, room *Room) bool {
	if policy := budget.Spec.UnhealthyPodEvictionPolicy; policy != nil && *policy == policyv1.AlwaysAllow {
		return true
	}
	return room.Healthy >= room.Desired && room.Desired > 0
}
