package garbage

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func clusterAt(revision string) *object.Cluster {
	return &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Status: object.ClusterStatus{Revision: revision}}
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func replicaSet(app string, observed int64) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: meta("rs")}
	rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	rs.Status.ObservedGeneration = observed
	return rs
}

func deployment(app string, replicas int32, observed int64) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: meta("d")}
	d.Spec.Replicas = &replicas
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	d.Status.ObservedGeneration = observed
	return d
}

func TestOrphanIsDeletedOnlyWhenItIsUnwantedForCertain(t *testing.T) {
	yes := true
	owned := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "1", Controller: &yes}
	for name, tc := range map[string]struct {
		others []object.Object
		owner  []metav1.OwnerReference
		gone   bool
	}{
		"nothing wants it":               {others: []object.Object{clusterAt("abc")}, gone: true},
		"no Cluster":                     {},
		"no revision yet":                {others: []object.Object{clusterAt("")}},
		"declared":                       {others: []object.Object{clusterAt("abc"), &object.Source{ObjectMeta: meta("pods.p")}}},
		"has a controller":               {others: []object.Object{clusterAt("abc")}, owner: []metav1.OwnerReference{owned}},
		"a ReplicaSet selects it":        {others: []object.Object{clusterAt("abc"), replicaSet("web", 1)}},
		"a ReplicaSet selects others":    {others: []object.Object{clusterAt("abc"), replicaSet("db", 1)}, gone: true},
		"a ReplicaSet is not seen yet":   {others: []object.Object{clusterAt("abc"), replicaSet("db", 0)}},
		"a Deployment is not seen yet":   {others: []object.Object{clusterAt("abc"), deployment("db", 0, 0)}},
		"its Deployment needs it still":  {others: []object.Object{clusterAt("abc"), deployment("web", 1, 1)}},
		"its Deployment wants none":      {others: []object.Object{clusterAt("abc"), deployment("web", 0, 1)}, gone: true},
		"another Deployment needs Pods":  {others: []object.Object{clusterAt("abc"), deployment("db", 1, 1)}, gone: true},
		"Source of a Deployment of name": {others: []object.Object{clusterAt("abc"), &object.Source{ObjectMeta: meta("deployments.p")}}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: meta("p")}
			pod.Labels, pod.OwnerReferences = map[string]string{"app": "web"}, tc.owner
			store := statetest.New(t, append(tc.others, pod)...)
			if err := engine.Settle(t.Context(), store, []engine.Controller{orphans()}, time.Now()); err != nil {
				t.Fatal(err)
			}
			if gone := state.Len[*corev1.Pod](store.View()) == 0; gone != tc.gone {
				t.Errorf("deleted: %t, want %t", gone, tc.gone)
			}
		})
	}
}

func TestOwnedObjectGoesOnlyWhenNoOwnerIsLeft(t *testing.T) {
	ref := func(kind, name, uid string) metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: "apps/v1", Kind: kind, Name: name, UID: types.UID(uid)}
	}
	rs := replicaSet("web", 1)
	rs.UID = "1"
	for name, tc := range map[string]struct {
		refs []metav1.OwnerReference
		gone bool
	}{
		"no owner":            {nil, false},
		"owner there":         {[]metav1.OwnerReference{ref("ReplicaSet", "rs", "1")}, false},
		"owner gone":          {[]metav1.OwnerReference{ref("ReplicaSet", "old", "1")}, true},
		"owner made anew":     {[]metav1.OwnerReference{ref("ReplicaSet", "rs", "2")}, true},
		"one of two is there": {[]metav1.OwnerReference{ref("ReplicaSet", "old", "3"), ref("ReplicaSet", "rs", "1")}, false},
		"unknown kind":        {[]metav1.OwnerReference{ref("StatefulThing", "x", "3")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: meta("p")}
			pod.OwnerReferences = tc.refs
			store := statetest.New(t, rs, pod)
			if err := engine.Settle(t.Context(), store, []engine.Controller{ownedPods()}, time.Now()); err != nil {
				t.Fatal(err)
			}
			if gone := state.Len[*corev1.Pod](store.View()) == 0; gone != tc.gone {
				t.Errorf("deleted: %t, want %t", gone, tc.gone)
			}
		})
	}
}
