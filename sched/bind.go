package sched

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// component is kube-scheduler's name for itself, which tools look for.
const component = "default-scheduler"

// Result is what one pass over the unbound Pods came to.
type Result struct {
	Bound         int
	Unschedulable []Unschedulable
}

func (r Result) empty() bool { return r.Bound == 0 && len(r.Unschedulable) == 0 }

// Unschedulable is a Pod that fits on no node, and why, in kube-scheduler's words.
type Unschedulable struct {
	Pod     *corev1.Pod
	Message string
}

// Bind places every Pod of tx that has no node, the most important and then the oldest first, and writes what came of it:
// the node or the reason, and an Event. A Pod that failed for the same reason before is left as it is.
func Bind(tx *state.Txn, now time.Time) Result { return bindAll(tx, newMemo(), now) }

func bindAll(tx *state.Txn, remembered *memo, now time.Time) Result {
	wanting := pending(tx, nil)
	if len(wanting) == 0 {
		return Result{}
	}
	return bind(tx, newView(tx, remembered), wanting, now)
}

// pending lists the Pods that want a node, in the order in which they get one. Those that skip names are left out.
func pending(r state.Reader, skip func(*corev1.Pod) bool) []*corev1.Pod {
	var found []*corev1.Pod
	for p := range state.ListBy(r, tables.PodsByNode, "") {
		if wantsNode(p) && (skip == nil || !skip(p)) {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(priority(b), priority(a)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time))
	})
	return found
}

func wantsNode(p *corev1.Pod) bool {
	return p.Spec.NodeName == "" && p.DeletionTimestamp == nil && !finished(p) && len(p.Spec.SchedulingGates) == 0
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

func bind(tx *state.Txn, v *View, wanting []*corev1.Pod, now time.Time) Result {
	var result Result
	required := make([]bool, len(v.nodes))
	for _, p := range wanting {
		d := v.demand(p)
		i, why := v.choose(d)
		if i < 0 {
			message := why.message(len(v.nodes))
			result.Unschedulable = append(result.Unschedulable, Unschedulable{p, message})
			refuse(tx, p, message, now)
			continue
		}
		if !required[i] { // The node is still as it was looked at when this is applied.
			required[i] = true
			tx.Require(v.nodes[i].object)
		}
		v.reserve(i, d)
		assign(tx, p, v.nodes[i].object.Name, now)
		result.Bound++
	}
	return result
}

// assign binds p to a node.
func assign(tx *state.Txn, p *corev1.Pod, node string, now time.Time) {
	bound := *p // Shares all but the fields changed here.
	bound.Spec.NodeName = node
	tx.Update(&bound)
	bound.Status.Conditions = scheduled(p, corev1.ConditionTrue, "", "", now)
	tx.SetStatus(&bound)
	event.Emit(tx, event.Event{
		About: p, From: component, Type: corev1.EventTypeNormal, Reason: "Scheduled",
		Message: fmt.Sprintf("Successfully assigned %s/%s to %s", p.Namespace, p.Name, node),
	}, now)
}

// refuse writes why p has no node, unless that is what it says already.
func refuse(tx *state.Txn, p *corev1.Pod, message string, now time.Time) {
	if i := scheduledAt(p); i >= 0 && p.Status.Conditions[i].Status == corev1.ConditionFalse && p.Status.Conditions[i].Message == message {
		return
	}
	refused := *p
	refused.Status.Conditions = scheduled(p, corev1.ConditionFalse, corev1.PodReasonUnschedulable, message, now)
	tx.SetStatus(&refused)
	event.Emit(tx, event.Event{About: p, From: component, Type: corev1.EventTypeWarning, Reason: "FailedScheduling", Message: message}, now)
}

func scheduledAt(p *corev1.Pod) int {
	return slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
}

// scheduled is p's conditions with a new PodScheduled.
func scheduled(p *corev1.Pod, status corev1.ConditionStatus, reason, message string, now time.Time) []corev1.PodCondition {
	c := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: status, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	i := scheduledAt(p)
	if i < 0 {
		return append(slices.Clip(p.Status.Conditions), c)
	}
	if p.Status.Conditions[i].Status == status {
		c.LastTransitionTime = p.Status.Conditions[i].LastTransitionTime
	}
	conditions := slices.Clone(p.Status.Conditions)
	conditions[i] = c
	return conditions
}
