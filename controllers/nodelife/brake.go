package nodelife

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	// fewest is the number of lost nodes that is never too many, unless it is all: small clusters lose half easily.
	fewest = 3
	// calmAfter is how long nodes have, once no longer too many are gone, to come back before Pods leave them: those of a
	// healed network come one after another.
	calmAfter = time.Minute
	// countFor is how long a count of silent nodes holds. Each that falls silent asks, and thousands may in one second, while a
	// node counts as silent seconds before it is judged.
	countFor = time.Second
)

// count is what the nodes were like a moment ago, all together. The zero value is out of date.
type count struct {
	mu      sync.Mutex
	at      time.Time // guarded by mu
	tooMany bool      // guarded by mu
}

// excessive says whether so many of all nodes are gone that the fault is probably not theirs.
func excessive(gone, all int) bool {
	return gone > 0 && 2*gone >= all && (gone >= fewest || gone == all)
}

// tooMany says whether most nodes are silent or about to be: nothing is then said of Pods, which probably run on. As for the
// brake, a node that has not joined or has no Pods is nobody's loss.
func (l *life) tooMany(r state.Reader, now time.Time) bool {
	for cluster := range state.List[*object.Cluster](r, "") {
		if apimeta.IsStatusConditionTrue(cluster.Status.Conditions, object.EvictionsPaused) {
			return true // already counted: every silent node asks, again and again
		}
	}
	l.counted.mu.Lock()
	defer l.counted.mu.Unlock()
	if age := now.Sub(l.counted.at); age < 0 || age >= countFor {
		l.counted.at, l.counted.tooMany = now, l.mostSilent(r, now)
	}
	return l.counted.tooMany
}

func (l *life) mostSilent(r state.Reader, now time.Time) bool {
	all, gone := 0, 0
	for node := range state.List[*corev1.Node](r, "") {
		if !object.Joined(node) {
			continue
		}
		all++
		if !l.beats.fresh(node.Name, now) && hasPods(r, node.Name) {
			gone++
		}
	}
	return excessive(gone, all)
}

// census is what the nodes are like, all together.
type census struct {
	joined  int
	gone    int            // not Ready although Pods are bound to them: without, nobody could lose any
	tainted []*corev1.Node // with a NoExecute taint, by name
}

func countNodes(r state.Reader) (c census) {
	for node := range state.List[*corev1.Node](r, "") {
		if !object.Joined(node) {
			continue
		}
		c.joined++
		if isLost(node) && hasPods(r, node.Name) {
			c.gone++
		}
		if hasNoExecute(node) {
			c.tainted = append(c.tainted, node)
		}
	}
	return c
}

func hasPods(r state.Reader, node string) bool {
	for range state.ListBy(r, tables.PodsByNode, node) {
		return true
	}
	return false
}

// brake records whether evictions for lost nodes are paused, and says from when on they may happen; false while they may not.
func brake(tx *state.Txn, c census, now time.Time) (from time.Time, may bool) {
	paused := excessive(c.gone, c.joined)
	for cluster := range state.List[*object.Cluster](tx, "") {
		was := apimeta.FindStatusCondition(cluster.Status.Conditions, object.EvictionsPaused)
		if was == nil && !paused {
			break
		}
		if was == nil || paused != (was.Status == metav1.ConditionTrue) {
			recordBrake(tx, cluster, c, now)
			return now.Add(calmAfter), !paused
		}
		return was.LastTransitionTime.Add(calmAfter), !paused
	}
	return time.Time{}, !paused
}

func recordBrake(tx *state.Txn, cluster *object.Cluster, c census, now time.Time) {
	condition := metav1.Condition{
		Type: object.EvictionsPaused, Status: metav1.ConditionTrue, Reason: reasonPaused,
		Message:            fmt.Sprintf("%d of %d nodes are not Ready, which is more likely a fault between them and this server than theirs: no Pod is moved off them", c.gone, c.joined),
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	kind := corev1.EventTypeWarning
	if !excessive(c.gone, c.joined) {
		condition.Status, condition.Reason, kind = metav1.ConditionFalse, reasonResumed, corev1.EventTypeNormal
		condition.Message = fmt.Sprintf("%d of %d nodes are Ready again: Pods leave the others once their time is over", c.joined-c.gone, c.joined)
	}
	changed := cluster.DeepCopy()
	apimeta.SetStatusCondition(&changed.Status.Conditions, condition)
	tx.Require(cluster) // Its status has other writers.
	tx.SetStatus(changed)
	event.Emit(tx, event.Event{About: cluster, From: component, Type: kind, Reason: condition.Reason, Message: condition.Message}, now)
}
