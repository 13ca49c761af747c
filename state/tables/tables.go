// Package tables is the schema of a Mainstay cluster: which kinds are stored and by what the loops find them.
package tables

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

var (
	// PodsByNode finds Pods by spec.nodeName; "" finds those that are not bound.
	PodsByNode = state.NewIndex("node", func(p *corev1.Pod) []string { return []string{p.Spec.NodeName} })
	// PodsByOwner finds Pods by the uid of their controller; "" finds those that have none.
	PodsByOwner = state.NewIndex("owner", controllerUID[*corev1.Pod])
	// OrphanPods finds Pods that have no controller: by their namespace, and by namespace/<pod-template-hash> if they have that label.
	OrphanPods = state.NewIndex("orphan", orphanIn[*corev1.Pod])
	// ReplicaSetsByOwner finds ReplicaSets by the uid of their controller; "" finds those that have none.
	ReplicaSetsByOwner = state.NewIndex("owner", controllerUID[*appsv1.ReplicaSet])
	// SlicesByService finds EndpointSlices by the name of their Service; use it with the Service's namespace in mind.
	SlicesByService = state.NewIndex("service", func(s *discoveryv1.EndpointSlice) []string {
		return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
	})
	// EventsByObject finds Events by the uid of the object they are about.
	EventsByObject = state.NewIndex("object", func(e *corev1.Event) []string { return []string{string(e.InvolvedObject.UID)} })
	// ServicesByClusterIP finds Services by their cluster address.
	ServicesByClusterIP = state.NewIndex("clusterIP", func(s *corev1.Service) []string { return []string{s.Spec.ClusterIP} })
)

func controllerUID[T object.Object](o T) []string {
	if ref := metav1.GetControllerOf(o); ref != nil {
		return []string{string(ref.UID)}
	}
	return []string{""}
}

func orphanIn[T object.Object](o T) []string {
	if metav1.GetControllerOfNoCopy(o) != nil {
		return nil
	}
	values := []string{o.GetNamespace()}
	if hash := o.GetLabels()[appsv1.DefaultDeploymentUniqueLabelKey]; hash != "" {
		values = append(values, o.GetNamespace()+"/"+hash)
	}
	return values
}

// Level is the format level that the cluster has reached. One from before there were levels, and one that is not known yet,
// have the first.
func Level(r state.Reader) int {
	for c := range state.List[*object.Cluster](r, "") {
		return max(1, c.Status.Level)
	}
	return 1
}

// Schema holds every kind and every index above.
func Schema() *state.Schema { return SchemaOf(object.Stored(), object.Level) }

// SchemaOf is Schema of a version that stores other kinds, and knows another level: one that is yet to come, as far as tests go.
func SchemaOf(kinds []object.Kind, level int) *state.Schema {
	s := &state.Schema{}
	state.SetLevels(s, state.Levels{Known: level, Reached: Level})
	for _, k := range kinds {
		state.Register(s, k)
	}
	state.AddIndex(s, PodsByNode)
	state.AddIndex(s, PodsByOwner)
	state.AddIndex(s, OrphanPods)
	state.AddIndex(s, ReplicaSetsByOwner)
	state.AddIndex(s, SlicesByService)
	state.AddIndex(s, EventsByObject)
	state.AddIndex(s, ServicesByClusterIP)
	return s
}

// ServerAddresses lists where the servers are reached, as host:port, in the order of their names; those left out that are not
// members yet.
func ServerAddresses(r state.Reader) []string {
	addresses := []string{}
	for s := range state.List[*object.Server](r, "") {
		if !s.Spec.Pending {
			addresses = append(addresses, s.Spec.Address)
		}
	}
	return addresses
}
