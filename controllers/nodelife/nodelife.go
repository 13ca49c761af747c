// Package nodelife says which nodes live and takes Pods off those that do not: silence becomes the node's conditions, the
// conditions become taints, and Pods leave a node for its NoExecute taints. It never talks to a node, and moves nothing
// while so many nodes are gone that the fault is probably elsewhere. docs/nodes.md tells an operator what happens when.
// Start at Controllers; Tell is how a server's log hears of it.
package nodelife

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	component = "node-controller"
	// workers share log entries when many nodes fall silent together.
	workers = 8
	// lookAgain is how often a silent node is looked at: nothing else tells that too many were silent, and are no longer.
	lookAgain = 10 * time.Second
	// forgetAfter is how long a node that nobody declares, with no Pod on it, stays in the list while nothing is heard of it.
	forgetAfter = 24 * time.Hour
)

// Controllers returns the controllers of nodes' lives. beats is what this term has heard of nodes; without it, as in a
// simulation, every node stays as it is.
func Controllers(beats *Heartbeats) []engine.Controller {
	l := &life{beats: beats}
	return []engine.Controller{
		{
			Name:      "nodes",
			Workers:   workers,
			Sources:   []engine.Source{engine.Each(engine.Self[*corev1.Node])},
			Reconcile: l.judge,
		},
		l.evictions(),
	}
}

type life struct {
	beats   *Heartbeats
	counted count
}

// judge brings a node's conditions in line with what is heard of it, and its taints with its conditions.
func (l *life) judge(tx *state.Txn, key state.Key, now time.Time) (time.Duration, error) {
	node, ok := state.Get[*corev1.Node](tx, key)
	if !ok || !object.Joined(node) {
		return 0, nil
	}
	if object.Silent(node) && forgotten(tx, node, now) {
		tx.Delete(node)
		return 0, nil
	}
	again := l.left(node, now)
	changed := node.DeepCopy()
	if again <= 0 {
		tx.Require(node) // It may have registered meanwhile, and its Pods are what it said then.
		silence(&changed.Status, l.beats.lastOf(node.Name), now)
		if !l.tooMany(tx, now) {
			podsNotReady(tx, node, now)
		}
		again = lookAgain
	}
	changed.Spec.Taints = taints(changed, now)
	tx.Update(changed)
	tx.SetStatus(changed)
	if object.Silent(changed) && !object.Silent(node) {
		event.Emit(tx, event.Event{
			About: node, From: component, Type: corev1.EventTypeWarning, Reason: reasonSilent, Message: object.NodeReady(changed).Message,
		}, now)
	}
	return again, nil
}

// left is how long the node may stay silent. One that was given up stays so until it registers anew: only that tells what
// has become of its Pods.
func (l *life) left(node *corev1.Node, now time.Time) time.Duration {
	if l.beats == nil {
		return timeToLive
	}
	if object.Silent(node) && l.beats.left(node.Name, now) > 0 {
		return lookAgain
	}
	return l.beats.left(node.Name, now)
}

// forgotten says whether a node may leave the list: silent for long, with nothing on it, and declared by nobody. Its agent
// would join anew, should it come back.
func forgotten(r state.Reader, node *corev1.Node, now time.Time) bool {
	if now.Sub(object.NodeReady(node).LastTransitionTime.Time) < forgetAfter || declared(r, node) {
		return false
	}
	for range state.ListBy(r, tables.PodsByNode, node.Name) {
		return false
	}
	return true
}

func declared(r state.Reader, node *corev1.Node) bool {
	_, ok := state.Get[*object.Source](r, state.Key{Name: object.SourceName(object.KindOf(node), node.Name)})
	return ok
}

// silenced are the conditions that nobody can know while a node is silent.
var silenced = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// silence writes into a node's status that nothing was heard since.
func silence(status *corev1.NodeStatus, since, now time.Time) {
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if !slices.Contains(silenced, c.Type) || c.Status == corev1.ConditionUnknown {
			continue
		}
		c.Status, c.Reason = corev1.ConditionUnknown, object.ReasonNodeSilent
		c.Message = fmt.Sprintf("the node's agent has said nothing since %s", since.UTC().Format(time.RFC3339))
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
}

// podsNotReady takes the Pods of a silent node out of service: whether they answer cannot be known.
func podsNotReady(tx *state.Txn, node *corev1.Node, now time.Time) {
	for pod := range state.ListBy(tx, tables.PodsByNode, node.Name) {
		i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
		if i < 0 || pod.Status.Conditions[i].Status != corev1.ConditionTrue {
			continue
		}
		changed := pod.DeepCopy()
		c := &changed.Status.Conditions[i]
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonSilent, "nothing is heard of node "+node.Name
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		tx.SetStatus(changed)
	}
}
