package plan

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// Commit is what Sources record of the commit that a plan comes from.
type Commit struct {
	Hash   string // full
	Author string // name <email>
	// LastChange says which commit last changed a file, where the repository's history tells. Without it, an object that
	// a plan creates or changes is said to come from the plan's commit.
	LastChange func(path string) (hash, author string, ok bool)
}

// Apply writes all of a plan to tx, which must be on the snapshot the plan was computed on, or read nothing that has
// changed since: else the transaction conflicts, and the plan is computed again.
func Apply(tx *state.Txn, p Plan, commit Commit, now time.Time) {
	for i := range p.Changes {
		change := &p.Changes[i]
		change.writeObject(tx, now)
		change.writeSource(tx, commit)
	}
}

func (c *Change) writeObject(tx *state.Txn, now time.Time) {
	switch c.Action {
	case Create:
		created := c.After.DeepCopyObject().(object.Object)
		if pod, ok := created.(*corev1.Pod); ok {
			pod.Status.Phase = corev1.PodPending
		}
		tx.Create(created)
	case Update:
		tx.Update(c.After)
	case Replace:
		replace(tx, c.Before.(*corev1.Pod), c.After.(*corev1.Pod), now)
	case Delete:
		if c.Before != nil {
			remove(tx, c.Before, now)
		}
	}
}

// replace lets a Pod go once the images of the one that takes its place are on its node; where it may not be running, at once.
func replace(tx *state.Txn, before, after *corev1.Pod, now time.Time) {
	if !hasNode(tx, before) {
		remove(tx, before, now)
		return
	}
	marked := before.DeepCopy()
	metav1.SetMetaDataAnnotation(&marked.ObjectMeta, object.ReplaceAnnotation, strings.Join(object.PodImages(&after.Spec), ","))
	tx.Update(marked)
}

// remove deletes an object; a Pod that may be running is only marked, and goes once its node has stopped it.
func remove(tx *state.Txn, obj object.Object, now time.Time) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || !hasNode(tx, pod) {
		tx.Delete(obj)
		return
	}
	if pod.DeletionTimestamp == nil {
		tx.Update(object.Terminating(pod, now))
	}
}

// hasNode says whether a node may be running the Pod.
func hasNode(r state.Reader, pod *corev1.Pod) bool {
	_, ok := state.Get[*corev1.Node](r, state.Key{Name: pod.Spec.NodeName})
	return ok
}

func (c *Change) writeSource(tx *state.Txn, commit Commit) {
	switch {
	case c.Source == nil && c.Was == nil:
	case c.Source == nil && (c.Action == Delete || c.Action == Record || c.Undeclared):
		tx.Delete(c.Was)
	case c.Source == nil:
	case c.Was == nil:
		source := c.Source.DeepCopy()
		source.Spec.Commit, source.Spec.Author = commit.of(source.Spec.Path)
		tx.Create(source)
	default:
		source := c.Was.DeepCopy()
		declared := string(source.Spec.Declared) != string(c.Source.Spec.Declared)
		source.Spec.Declared, source.Spec.Path, source.Spec.Line = c.Source.Spec.Declared, c.Source.Spec.Path, c.Source.Spec.Line
		if declared {
			source.Spec.Commit, source.Spec.Author = commit.Hash, commit.Author
		}
		tx.Update(source)
	}
}

// of is the commit that last changed the file, as far as it is known.
func (c Commit) of(path string) (hash, author string) {
	if c.LastChange != nil {
		if hash, author, ok := c.LastChange(path); ok {
			return hash, author
		}
	}
	return c.Hash, c.Author
}
