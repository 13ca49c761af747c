package object

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Level is the newest format level that this program reads. It goes up by one in each release that adds to what is stored: a
// kind, a field of a kind of ours, an entry or a snapshot of another form. None of that is written before the cluster has
// reached the level.
//
//	1  all that the first release with several servers stores
const Level = 1

var kinds = []Kind{
	{GroupVersionKind: core("Namespace"), Resource: "namespaces", ShortNames: []string{"ns"}, Declarable: true, New: empty[corev1.Namespace], Keep: isOwnNamespace},
	{GroupVersionKind: core("Node"), Resource: "nodes", ShortNames: []string{"no"}, Declarable: true, New: empty[corev1.Node], Keep: hasJoined},
	{GroupVersionKind: core("ConfigMap"), Resource: "configmaps", ShortNames: []string{"cm"}, Namespaced: true, Declarable: true, New: empty[corev1.ConfigMap]},
	{GroupVersionKind: core("Secret"), Resource: "secrets", Namespaced: true, Declarable: true, New: empty[corev1.Secret], Redact: redactSecret},
	{GroupVersionKind: core("Service"), Resource: "services", ShortNames: []string{"svc"}, Categories: []string{"all"}, Namespaced: true, Declarable: true, New: empty[corev1.Service]},
	{GroupVersionKind: core("Pod"), Resource: "pods", ShortNames: []string{"po"}, Categories: []string{"all"}, Namespaced: true, Declarable: true, New: empty[corev1.Pod]},
	{GroupVersionKind: core("Event"), Resource: "events", ShortNames: []string{"ev"}, Namespaced: true, New: empty[corev1.Event]},
	{GroupVersionKind: apps("ReplicaSet"), Resource: "replicasets", ShortNames: []string{"rs"}, Categories: []string{"all"}, Namespaced: true, Declarable: true, New: empty[appsv1.ReplicaSet]},
	{GroupVersionKind: apps("Deployment"), Resource: "deployments", ShortNames: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true, Declarable: true, New: empty[appsv1.Deployment]},
	{GroupVersionKind: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Resource: "endpointslices", Namespaced: true, Declarable: true, New: empty[discoveryv1.EndpointSlice]},
	{GroupVersionKind: networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), Resource: "networkpolicies", ShortNames: []string{"netpol"}, Namespaced: true, Declarable: true, New: empty[networkingv1.NetworkPolicy]},
	{GroupVersionKind: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), Resource: "poddisruptionbudgets", ShortNames: []string{"pdb"}, Namespaced: true, Declarable: true, New: empty[policyv1.PodDisruptionBudget]},
	{GroupVersionKind: GroupVersion.WithKind("Revision"), Resource: "revisions", ShortNames: []string{"rev"}, New: empty[Revision]},
	{GroupVersionKind: GroupVersion.WithKind("Source"), Resource: "sources", ShortNames: []string{"src"}, Namespaced: true, New: empty[Source], Redact: redactSource},
	{GroupVersionKind: GroupVersion.WithKind("Cluster"), Resource: "clusters", Declarable: true, Singleton: true, New: empty[Cluster]},
	{GroupVersionKind: GroupVersion.WithKind("Server"), Resource: "servers", New: empty[Server]},
}

// unserved are kinds that servers keep for themselves: no API, plan, repository or command line knows them.
var unserved = []Kind{
	{GroupVersionKind: GroupVersion.WithKind("JoinToken"), Resource: "jointokens", New: empty[JoinToken]},
	{GroupVersionKind: GroupVersion.WithKind("Authority"), Resource: "authorities", New: empty[Authority]},
}

func core(kind string) schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind(kind) }
func apps(kind string) schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind(kind) }

// empty makes an empty T; *T must be an Object.
func empty[T any, P interface {
	*T
	Object
}]() Object {
	return P(new(T))
}

func lower(s string) string { return strings.ToLower(s) }

// Stored lists every kind there is: Kinds, and those that servers keep for themselves.
func Stored() []Kind { return slices.Concat(kinds, unserved) }

// Kinds lists every kind that users may know of, in a fixed order in which an object's owner or scope comes before it.
func Kinds() []Kind { return slices.Clone(kinds) }

// ByGVK finds a kind by group, version and kind.
func ByGVK(gvk schema.GroupVersionKind) (Kind, bool) {
	return find(func(k Kind) bool { return k.GroupVersionKind == gvk })
}

// ByName finds a kind by what a user may type: plural, singular, short name or Kind, in any case, with or without ".group".
func ByName(name string) (Kind, bool) {
	name, group, qualified := strings.Cut(lower(name), ".")
	return find(func(k Kind) bool {
		if qualified && k.Group != group {
			return false
		}
		return name == k.Resource || name == k.Singular() || slices.Contains(k.ShortNames, name)
	})
}

// KindOf finds the kind of an object by its Go type, whatever its TypeMeta says. An unknown type is a bug and panics.
func KindOf(obj Object) Kind {
	k, ok := byType[reflect.TypeOf(obj)]
	if !ok {
		panic(fmt.Sprintf("object: %T is no kind of Mainstay", obj))
	}
	return k
}

// KindFor is KindOf for a type alone.
func KindFor[T Object]() Kind {
	var zero T
	return KindOf(zero)
}

// byType is filled once, from the constant kinds, before anything can read it.
var byType = func() map[reflect.Type]Kind {
	m := make(map[reflect.Type]Kind, len(kinds)+len(unserved))
	for _, k := range Stored() {
		m[reflect.TypeOf(k.New())] = k
	}
	return m
}()

func find(match func(Kind) bool) (Kind, bool) {
	i := slices.IndexFunc(kinds, match)
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}
