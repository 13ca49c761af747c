package nodelife

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/event"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	// burst is how many Pods one transaction evicts at most.
	burst = 250
	// perSecond is which part of the nodes may begin to lose their Pods in a second, and no fewer than one node.
	perSecond = 100
)

// Reasons of Events.
const (
	reasonEvicted = "TaintManagerEviction"
	reasonWaiting = "DrainWaits" // a node is not empty yet
	reasonSilent  = "NodeNotReady"
	reasonPaused  = "TooManyNodesNotReady"
	reasonResumed = "EnoughNodesReady"
)

// namesShown is how many Pods the Event of a drain that waits names.
const namesShown = 5

var evictionsKey = state.Key{Name: "evictions"}

// evictions takes Pods off nodes whose NoExecute taints they do not tolerate any longer. It looks at all nodes at once, since
// it depends on how many are lost.
func (l *life) evictions() engine.Controller {
	return engine.Controller{
		Name: "evictions",
		Sources: []engine.Source{
			engine.Each(engine.To[*corev1.Node](evictionsKey)),
			engine.Each(engine.To[*object.Cluster](evictionsKey)),
			engine.Each(engine.To[*policyv1.PodDisruptionBudget](evictionsKey)),
			engine.EachMany(ofTaintedNode),
		},
		Reconcile: l.evict,
	}
}

// ofTaintedNode notices Pods that are bound to a node which has to be empty.
func ofTaintedNode(r state.Reader, pod *corev1.Pod, add func(state.Key)) {
	if node, ok := state.Get[*corev1.Node](r, state.Key{Name: pod.Spec.NodeName}); ok && hasNoExecute(node) {
		add(evictionsKey)
	}
}

func hasNoExecute(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute })
}

func (l *life) evict(tx *state.Txn, _ state.Key, now time.Time) (time.Duration, error) {
	all := countNodes(tx)
	from, may := brake(tx, all, now)
	p := &pass{tx: tx, now: now, evictAfter: evictAfter(tx), budgets: podcontrol.NewBudgets(tx), may: may}
	if trusted := l.beats.trusted(); trusted.After(from) {
		from = trusted
	}
	turn := turns{gap: time.Second / time.Duration(max(all.joined/perSecond, 1)), next: from}
	slices.SortStableFunc(all.tainted, func(a, b *corev1.Node) int { return lostSince(a).Compare(lostSince(b)) })
	for _, node := range all.tainted {
		p.from, p.late = from, 0
		if isLost(node) {
			p.from, p.late = turn.take(lostSince(node))
		}
		if p.node(node); p.done >= burst {
			return engine.Soon, nil
		}
	}
	return p.again, nil
}

// turns keeps lost nodes from losing their Pods all at once: each has its turn so long after the one before.
type turns struct {
	gap  time.Duration
	next time.Time // when evictions may begin at the next node
	lost time.Time // when the next node could have been lost to be in nobody's way
}

// take is the turn of a node that is lost since then: its Pods stay until from, and late longer than they would by themselves.
// The nodes come in the order in which they were lost, so that none waits again for one that is lost later.
func (t *turns) take(since time.Time) (from time.Time, late time.Duration) {
	from, late = t.next, max(t.lost.Sub(since), 0)
	t.next, t.lost = from.Add(t.gap), since.Add(late+t.gap)
	return from, late
}

// lostSince is when a node was found to be lost; the zero time if it is not.
func lostSince(node *corev1.Node) time.Time {
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; ofLife(t) && t.TimeAdded != nil {
			return t.TimeAdded.Time
		}
	}
	return time.Time{}
}

// evictAfter is the cluster's setting.
func evictAfter(r state.Reader) time.Duration {
	for cluster := range state.List[*object.Cluster](r, "") {
		if cluster.Spec.EvictAfter != nil {
			return cluster.Spec.EvictAfter.Duration
		}
	}
	return kube.DefaultEvictAfter
}

func isLost(node *corev1.Node) bool { return object.NodeReady(node).Status != corev1.ConditionTrue }

// pass is one look at the Pods of all tainted nodes.
type pass struct {
	tx         *state.Txn
	now        time.Time
	evictAfter time.Duration
	budgets    *podcontrol.Budgets
	may        bool          // Pods may leave lost nodes
	from       time.Time     // and from this time on
	late       time.Duration // and so long after their time
	done       int           // Pods evicted
	again      time.Duration // until the next one has to go; 0 if none has to
}

func (p *pass) node(node *corev1.Node) {
	var waits []string
	for pod := range state.ListBy(p.tx, tables.PodsByNode, node.Name) {
		at, why, leaves := deadline(pod, node.Spec.Taints, p.evictAfter)
		if !leaves || pod.DeletionTimestamp != nil && !object.Silent(node) {
			continue
		}
		if ofLife(why) {
			p.leaveLost(node, pod, at)
		} else if budget := p.drain(node, pod, why, at); budget != "" {
			waits = append(waits, fmt.Sprintf("%s (%s)", pod.Name, budget))
		}
		if p.done >= burst {
			return
		}
	}
	if len(waits) > 0 {
		p.sayWaiting(node, waits)
	}
}

// sayWaiting tells which Pods keep a node from being empty, once a minute at most. A budget's change is what ends it.
func (p *pass) sayWaiting(node *corev1.Node, waits []string) {
	for e := range state.ListBy(p.tx, tables.EventsByObject, string(node.UID)) {
		if e.Reason == reasonWaiting && p.now.Sub(e.LastTimestamp.Time) < time.Minute {
			return
		}
	}
	event.Emit(p.tx, event.Event{
		About: node, From: component, Type: corev1.EventTypeNormal, Reason: reasonWaiting,
		Message: fmt.Sprintf("%d Pods stay until a PodDisruptionBudget lets them go: %s", len(waits), strings.Join(waits[:min(len(waits), namesShown)], ", ")),
	}, p.now)
}

// leaveLost evicts a Pod from a node that is lost. Where nobody can be asked to stop it, the Pod is struck off: its name is
// free for its successor, and a node that comes back is told that the Pod is gone.
func (p *pass) leaveLost(node *corev1.Node, pod *corev1.Pod, at time.Time) {
	if at = at.Add(p.late); at.Before(p.from) {
		at = p.from
	}
	switch {
	case !p.may: // The brake's end is a change of the Cluster.
	case p.later(at):
	case object.Silent(node):
		p.say(pod, "from node "+node.Name+", of which nothing is heard")
		p.tx.Delete(pod)
	default:
		p.mark(pod, "node "+node.Name+" is not Ready")
	}
}

// drain evicts a Pod for a taint that Git declares, or returns the budget that does not allow it now.
func (p *pass) drain(node *corev1.Node, pod *corev1.Pod, why *corev1.Taint, at time.Time) (budget string) {
	if pod.DeletionTimestamp != nil || p.later(at) {
		return ""
	}
	if budget := p.budgets.Refuse(pod); budget != "" {
		return budget
	}
	p.mark(pod, fmt.Sprintf("node %s has the taint %s, which the Pod does not tolerate", node.Name, why.ToString()))
	return ""
}

// later notes that a Pod's time comes at, and says whether that is still to come.
func (p *pass) later(at time.Time) bool {
	wait := at.Sub(p.now)
	if wait > 0 && (p.again == 0 || wait < p.again) {
		p.again = wait
	}
	return wait > 0
}

// mark asks the Pod's node to stop it.
func (p *pass) mark(pod *corev1.Pod, why string) {
	p.say(pod, why)
	podcontrol.Delete(p.tx, pod, p.now)
	dying, ok := state.Get[*corev1.Pod](p.tx, state.KeyOf(pod))
	if !ok {
		return
	}
	dying = dying.DeepCopy()
	dying.Status.Conditions = append(dying.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager", Message: why,
		LastTransitionTime: metav1.NewTime(p.now.Truncate(time.Second)),
	})
	p.tx.SetStatus(dying)
}

func (p *pass) say(pod *corev1.Pod, why string) {
	p.done++
	event.Emit(p.tx, event.Event{
		About: pod, From: component, Type: corev1.EventTypeWarning, Reason: reasonEvicted, Message: "Evicted: " + why,
	}, p.now)
}
