package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// Compute compares what a repository declares, whole, with a snapshot and the Sources in it. What has a Source and is not
// declared any more is deleted, and nothing else ever is. With problems, the plan is empty: they say why the declarations
// cannot be brought about, ordered by place. An object whose declaration is byte by byte that of its Source is not looked at.
func Compute(desired []Desired, rules Rules, r state.Reader) (Plan, []object.Problem) {
	c := &computation{rules: rules, r: r, seen: make(map[identity]bool, len(desired))}
	if len(desired) == 0 {
		// Absence is believed only from a whole tree, and a tree without a single object is most likely the wrong one.
		return Plan{}, []object.Problem{{Message: "nothing is declared: nothing is changed, for this is more likely a mistake than a wish; check --path and .mainstayignore"}}
	}
	for i := range desired {
		c.seen[identityOf(&desired[i])] = true
		c.decide(&desired[i])
	}
	c.ownNamespaces()
	c.prune()
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, byPlace)
		return Plan{}, c.problems
	}
	c.order()
	return c.plan, nil
}

// identity is what tells declared objects apart.
type identity struct {
	resource string
	key      state.Key
}

func identityOf(d *Desired) identity { return identity{d.Kind.Resource, state.KeyOf(d.Object)} }

type computation struct {
	rules    Rules
	r        state.Reader
	seen     map[identity]bool
	known    int // of those seen, how many have a Source
	plan     Plan
	problems []object.Problem
}

// decide adds what must be done for one declared object.
func (c *computation) decide(d *Desired) {
	key := state.KeyOf(d.Object)
	was, known := state.Get[*object.Source](c.r, sourceKey(d.Kind, key))
	live, exists := state.GetKind(c.r, d.Kind, key)
	change := Change{Action: Record, Kind: d.Kind, Key: key, Was: was}
	if exists {
		change.Before = live
	}
	if known {
		c.known++
	}
	sameText := known && bytes.Equal(was.Spec.Declared, d.Declared)
	if !sameText || was.Spec.Path != d.Path || was.Spec.Line != d.Line {
		change.Source = sourceOf(d, key)
	}
	switch {
	case d.Kind.Singleton && !c.mayBeCalled(d):
		return
	case !exists:
		change.Action, change.After = Create, d.Object
	case !known && metav1.GetControllerOf(live) != nil:
		c.taken(d, metav1.GetControllerOf(live))
		return
	case sameText, live.GetDeletionTimestamp() != nil: // what is being deleted is made anew from its Source
	default:
		c.compare(d, &change)
	}
	c.add(change)
}

// compare finds out how a live object differs from what is declared.
func (c *computation) compare(d *Desired, change *Change) {
	merged := Merge(c.base(change), d.Object, change.Before).DeepCopyObject().(object.Object)
	if service, ok := merged.(*corev1.Service); ok {
		giveBack(service)
	}
	c.rules.Default(merged)
	if pod, ok := merged.(*corev1.Pod); ok {
		delete(pod.Annotations, object.ReplaceAnnotation) // set anew, if the Pod is to be replaced still
	}
	switch {
	case apiequality.Semantic.DeepEqual(change.Before, merged):
		return
	case podSpecChanged(change.Before, merged):
		change.Action, change.After = Replace, merged
		return
	}
	change.Action, change.After = Update, merged
	for _, err := range c.rules.ValidateUpdate(merged, change.Before) {
		c.refuse(d, err)
	}
}

// giveBack drops what was allocated for a type of Service that it no longer has, as an API server does: Git never named it,
// yet it would be an error.
func giveBack(service *corev1.Service) {
	switch service.Spec.Type {
	case corev1.ServiceTypeExternalName:
		service.Spec.ClusterIP, service.Spec.ClusterIPs = "", nil
		service.Spec.IPFamilies, service.Spec.IPFamilyPolicy = nil, nil
	case corev1.ServiceTypeClusterIP:
	default:
		return
	}
	for i := range service.Spec.Ports {
		service.Spec.Ports[i].NodePort = 0
	}
}

// base is the former declaration with its defaults, nil if there was none.
func (c *computation) base(change *Change) object.Object {
	if change.Was == nil {
		return adopted(change.Before)
	}
	base := change.Kind.New()
	if json.Unmarshal(change.Was.Spec.Declared, base) != nil {
		return nil // written by another version of Mainstay: everything declared counts as new
	}
	c.rules.Default(base)
	return base
}

// adopted is the base of an object without Source: of a Pod taken in from a node, all of it but what a scheduler sets,
// so that what the repository has dropped in the meantime goes.
func adopted(live object.Object) object.Object {
	pod, ok := live.(*corev1.Pod)
	if !ok {
		return nil
	}
	base := *pod
	base.Spec.NodeName = ""
	return &base
}

func podSpecChanged(before, after object.Object) bool {
	a, ok := before.(*corev1.Pod)
	return ok && !apiequality.Semantic.DeepEqual(a.Spec, after.(*corev1.Pod).Spec)
}

func (c *computation) add(change Change) {
	switch {
	case change.Action == Create:
		c.plan.Counts.Created++
	case change.Action == Update:
		c.plan.Counts.Changed++
	case change.Action == Replace:
		c.plan.Counts.Replaced++
	default:
		c.plan.Counts.Untouched++
		if change.Source == nil {
			return
		}
		if change.Was != nil && bytes.Equal(change.Was.Spec.Declared, change.Source.Spec.Declared) {
			c.plan.Counts.Moved++
		}
	}
	c.plan.Changes = append(c.plan.Changes, change)
}

// ownNamespaces sees to the Namespaces that exist even if they are not declared.
func (c *computation) ownNamespaces() {
	kind := object.KindFor[*corev1.Namespace]()
	for _, name := range object.OwnNamespaces() {
		key := state.Key{Name: name}
		if _, exists := state.GetKind(c.r, kind, key); exists || c.seen[identity{kind.Resource, key}] {
			continue
		}
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		c.rules.Default(namespace)
		c.plan.Changes = append(c.plan.Changes, Change{Action: Create, Kind: kind, Key: key, After: namespace})
	}
}

// prune deletes what was declared and is not any more.
func (c *computation) prune() {
	if c.known == state.Len[*object.Source](c.r) {
		return
	}
	for was := range state.List[*object.Source](c.r, "") {
		kind, key, ok := Declares(was)
		if !ok || c.seen[identity{kind.Resource, key}] {
			continue
		}
		if kind.Singleton {
			c.nameless(was)
			continue
		}
		change := Change{Action: Delete, Kind: kind, Key: key, Was: was}
		if live, exists := state.GetKind(c.r, kind, key); exists {
			change.Before = live
		}
		if change.Before != nil && kind.Keep != nil && kind.Keep(change.Before) {
			c.takeBack(change)
			continue
		}
		c.plan.Counts.Deleted++
		c.plan.Changes = append(c.plan.Changes, change)
	}
}

// takeBack removes what the repository said of an object that stays.
func (c *computation) takeBack(change Change) {
	nothing := change.Kind.New()
	c.rules.Default(nothing)
	merged := Merge(c.base(&change), nothing, change.Before)
	change.Undeclared, change.Action = true, Record
	if !apiequality.Semantic.DeepEqual(change.Before, merged) {
		change.Action, change.After = Update, merged
		c.plan.Counts.Changed++
	}
	c.plan.Changes = append(c.plan.Changes, change)
}

// order puts owners and scopes before what is in them, and deletes the other way round, last.
func (c *computation) order() {
	rank := map[string]int{}
	for i, kind := range object.Kinds() {
		rank[kind.Resource] = i
	}
	place := func(ch *Change) int {
		if ch.Action == Delete {
			return 2*len(rank) - rank[ch.Kind.Resource]
		}
		return rank[ch.Kind.Resource]
	}
	slices.SortStableFunc(c.plan.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(place(&a), place(&b)), cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
}

// Declares is the kind and key of the object that a Source is about. It fails for a kind this Mainstay does not know.
func Declares(s *object.Source) (object.Kind, state.Key, bool) {
	kind, ok := object.ByGVK(schema.FromAPIVersionAndKind(s.Spec.APIVersion, s.Spec.Kind))
	return kind, state.Key{Namespace: s.Namespace, Name: s.Spec.Name}, ok
}

func sourceKey(kind object.Kind, key state.Key) state.Key {
	return state.Key{Namespace: key.Namespace, Name: object.SourceName(kind, key.Name)}
}

func sourceOf(d *Desired, key state.Key) *object.Source {
	apiVersion, kind := d.Kind.ToAPIVersionAndKind()
	source := &object.Source{Spec: object.SourceSpec{
		APIVersion: apiVersion, Kind: kind, Name: key.Name, Path: d.Path, Line: d.Line, Declared: d.Declared,
	}}
	source.Namespace, source.Name = key.Namespace, object.SourceName(d.Kind, key.Name)
	return source
}

// refuse turns a rule against changing an object into a problem that says what to do instead.
func (c *computation) refuse(d *Desired, err *field.Error) {
	message := c.rules.Message(d.Kind.Kind, err)
	if err.Type == field.ErrorTypeForbidden || err.Type == field.ErrorTypeInvalid {
		message += "; where a field cannot change, give the object another name, or remove it in one commit and add it in the next"
	}
	c.problem(d, err.Field, message)
}

func (c *computation) taken(d *Desired, owner *metav1.OwnerReference) {
	c.problem(d, "metadata.name", fmt.Sprintf("the name is taken by a %s that %s %s made: choose another name", d.Kind.Kind, owner.Kind, owner.Name))
}

func (c *computation) problem(d *Desired, at, message string) {
	problem := object.Problem{Path: d.Path, Line: d.Line, Column: 1, Object: describe(d.Kind, state.KeyOf(d.Object)), Field: at, Message: message}
	if d.Position != nil {
		problem.Line, problem.Column = d.Position(at)
	}
	c.problems = append(c.problems, problem)
}

// describe names an object for a person: Kind namespace/name.
func describe(kind object.Kind, key state.Key) string { return kind.Kind + " " + key.String() }

func byPlace(a, b object.Problem) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field))
}
