package deployment

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/podcontrol"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// ofReplicaSet names the Deployment that a ReplicaSet belongs to, or those that might adopt it.
func ofReplicaSet(r state.Reader, rs *appsv1.ReplicaSet, add func(state.Key)) {
	if metav1.GetControllerOfNoCopy(rs) != nil {
		if key, ok := engine.Owner[*appsv1.ReplicaSet]("Deployment")(rs); ok {
			add(key)
		}
		return
	}
	for d := range state.List[*appsv1.Deployment](r, rs.Namespace) {
		if podcontrol.Selects(d.Spec.Selector, rs.Labels) {
			add(state.KeyOf(d))
		}
	}
}

// claim lets go of ReplicaSets that the selector no longer selects and takes in those without a controller that it does,
// unless the repository declares them by themselves.
func (r *rollout) claim() {
	for _, rs := range slices.Collect(state.ListBy(r.tx, tables.ReplicaSetsByOwner, string(r.d.UID))) {
		if !podcontrol.Selects(r.d.Spec.Selector, rs.Labels) {
			released := rs.DeepCopy()
			released.OwnerReferences = slices.DeleteFunc(released.OwnerReferences, func(ref metav1.OwnerReference) bool {
				return ref.UID == r.d.UID
			})
			r.tx.Update(released)
		}
	}
	for _, rs := range slices.Collect(state.ListBy(r.tx, tables.ReplicaSetsByOwner, "")) {
		if rs.Namespace == r.d.Namespace && podcontrol.Selects(r.d.Spec.Selector, rs.Labels) && !r.declared(rs) {
			adopted := rs.DeepCopy()
			gvk := object.KindOf(r.d).GroupVersionKind
			adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(r.d, gvk))
			r.tx.Update(adopted)
		}
	}
}

func (r *rollout) declared(rs *appsv1.ReplicaSet) bool {
	_, ok := state.Get[*object.Source](r.tx, state.Key{Namespace: rs.Namespace, Name: object.SourceName(object.KindOf(rs), rs.Name)})
	return ok
}

// find reads the Deployment's ReplicaSets and which of them has its template: the oldest, if several do. Comparing
// templates is the costly part, so it is done once.
func (r *rollout) find() {
	r.sets = slices.SortedStableFunc(state.ListBy(r.tx, tables.ReplicaSetsByOwner, string(r.d.UID)), func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	matches := func(rs *appsv1.ReplicaSet) bool { return sameTemplate(&rs.Spec.Template, &r.d.Spec.Template) }
	if known := r.current; known != nil {
		matches = func(rs *appsv1.ReplicaSet) bool { return rs.UID == known.UID }
	}
	r.current = nil
	if i := slices.IndexFunc(r.sets, matches); i >= 0 {
		r.current = r.sets[i]
	}
}

// old lists the ReplicaSets of other templates, oldest first.
func (r *rollout) old() []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(r.sets), func(rs *appsv1.ReplicaSet) bool { return rs == r.current })
}

// sameTemplate compares templates without the label that a ReplicaSet's has in addition.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := *a, *b
	x.Labels, y.Labels = withoutHash(a.Labels), withoutHash(b.Labels)
	return apiequality.Semantic.DeepEqual(&x, &y)
}

func withoutHash(set map[string]string) map[string]string {
	if _, ok := set[appsv1.DefaultDeploymentUniqueLabelKey]; !ok {
		return set
	}
	set = maps.Clone(set)
	delete(set, appsv1.DefaultDeploymentUniqueLabelKey)
	return set
}

// create makes the ReplicaSet of the Deployment's template, with as many replicas as may be added now.
func (r *rollout) create() {
	name, hash := r.freeName()
	n := r.room(0)
	template := *r.d.Spec.Template.DeepCopy()
	template.Labels = withHash(template.Labels, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withHash(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.d.Namespace, Name: name, Labels: maps.Clone(template.Labels), Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.d, object.KindOf(r.d).GroupVersionKind)},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &n, MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
	r.annotate(rs)
	annotateScale(rs, r.wanted(), r.maxSurge())
	r.tx.Create(rs)
	r.find()
	if n > 0 {
		r.said = append(r.said, scaledMessage(name, 0, n))
	}
	r.progress("NewReplicaSetCreated", "Created new replica set "+strconv.Quote(name))
}

// freeName is the name and the hash of a new ReplicaSet. A name that another template has taken counts as a collision.
func (r *rollout) freeName() (name, hash string) {
	for {
		hash = templateHash(&r.d.Spec.Template, r.status.CollisionCount)
		base := r.d.Name[:min(len(r.d.Name), validation.DNS1123SubdomainMaxLength-1-len(hash))]
		name = base + "-" + hash
		if _, taken := state.Get[*appsv1.ReplicaSet](r.tx, state.Key{Namespace: r.d.Namespace, Name: name}); !taken {
			return name, hash
		}
		count := int32(1)
		if r.status.CollisionCount != nil {
			count += *r.status.CollisionCount
		}
		r.status.CollisionCount = &count
	}
}

func withHash(set map[string]string, hash string) map[string]string {
	set = maps.Clone(set)
	if set == nil {
		set = map[string]string{}
	}
	set[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return set
}

// cleanUp deletes the oldest ReplicaSets without Pods beyond the limit of the history.
func (r *rollout) cleanUp() {
	if r.d.Spec.RevisionHistoryLimit == nil {
		return
	}
	history := r.old()
	slices.SortStableFunc(history, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(a), revisionOf(b)) })
	for _, rs := range history[:max(len(history)-int(*r.d.Spec.RevisionHistoryLimit), 0)] {
		if replicas(rs) == 0 && rs.Status.Replicas == 0 && rs.Status.ObservedGeneration >= rs.Generation && r.pods(rs) == 0 {
			r.tx.Delete(rs)
		}
	}
	r.find()
}
