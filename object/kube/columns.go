package kube

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
)

// printers are written out here because those of Kubernetes bring every kind it ever had and a client for each, half of
// the program. The titles and cells are the same: a test compares them.
var printers = map[schema.GroupKind]printer{
	kind[*corev1.Namespace](): columns(func(n *corev1.Namespace) []any {
		return []any{n.Name, string(n.Status.Phase), age(n.CreationTimestamp)}
	}, nameColumn, text("Status", "Active, or Terminating while it is emptied."), ageColumn),

	kind[*corev1.ConfigMap](): columns(func(c *corev1.ConfigMap) []any {
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), age(c.CreationTimestamp)}
	}, nameColumn, text("Data", "How many keys it has."), ageColumn),

	kind[*corev1.Secret](): columns(func(s *corev1.Secret) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp)}
	}, nameColumn, text("Type", "What it is for."), text("Data", "How many keys it has."), ageColumn),

	kind[*corev1.Service](): columns(serviceCells,
		nameColumn,
		text("Type", "How far it can be reached."),
		text("Cluster-IP", "Its address in the cluster."),
		text("External-IP", "Addresses outside of the cluster that lead to it."),
		text("Port(s)", "Its ports, and those of nodes that lead to them."),
		ageColumn,
		wide(text("Selector", "The labels of the Pods it leads to."))),

	kind[*discoveryv1.EndpointSlice](): columns(endpointSliceCells,
		nameColumn,
		text("AddressType", "What kind of addresses it has."),
		text("Ports", "The ports of each endpoint."),
		text("Endpoints", "The first addresses."),
		ageColumn),

	kind[*networkingv1.NetworkPolicy](): columns(func(p *networkingv1.NetworkPolicy) []any {
		return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), age(p.CreationTimestamp)}
	}, nameColumn, text("Pod-Selector", "The labels of the Pods it is about."), ageColumn),

	kind[*policyv1.PodDisruptionBudget](): columns(func(b *policyv1.PodDisruptionBudget) []any {
		return []any{b.Name, orNA(b.Spec.MinAvailable), orNA(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), age(b.CreationTimestamp)}
	}, nameColumn,
		text("Min Available", "How many of its Pods must be Ready."),
		text("Max Unavailable", "How many of its Pods need not be."),
		number("Allowed Disruptions", "How many of its Pods may be evicted now."),
		ageColumn),

	kind[*corev1.Node](): columns(nodeCells,
		nameColumn,
		text("Status", "Whether it can run Pods and takes new ones."),
		text("Roles", "What its labels say it is for."),
		ageColumn,
		text("Version", "The version of its agent."),
		wide(text("Internal-IP", "Its address in the cluster's network.")),
		wide(text("External-IP", "Its address outside of it.")),
		wide(text("OS-Image", "Its operating system.")),
		wide(text("Kernel-Version", "Its kernel, and the processor's architecture.")),
		wide(text("Container-Runtime", "Its container engine."))),

	kind[*corev1.Event](): columns(eventCells,
		text("Last Seen", "Time since it happened last."),
		text("Type", "Normal or Warning."),
		text("Reason", "What happened, in a word."),
		text("Object", "What it happened to."),
		wide(text("Subobject", "The part of the object it happened to.")),
		wide(text("Source", "Who says so.")),
		text("Message", "What happened."),
		wide(text("First Seen", "Time since it happened first.")),
		wide(text("Count", "How often it happened.")),
		wide(name("The event's own name."))),

	kind[*corev1.Pod](): columns(podCells,
		nameColumn,
		text("Ready", "Containers that are ready, of all."),
		text("Status", "What its containers are doing."),
		text("Restarts", "How often containers were restarted, and when last."),
		ageColumn,
		wide(text("IP", "Its address.")),
		wide(text("Node", "Where it runs.")),
		wide(text("Nominated Node", "Where room is being made for it.")),
		wide(text("Readiness Gates", "Further conditions that it waits for."))),

	kind[*appsv1.ReplicaSet](): columns(replicaSetCells,
		nameColumn,
		number("Desired", "Pods that it is to have."),
		number("Current", "Pods that it has."),
		number("Ready", "Of these, those that are ready."),
		ageColumn, containersColumn, imagesColumn, selectorColumn),

	kind[*appsv1.Deployment](): columns(deploymentCells,
		nameColumn,
		text("Ready", "Pods that are ready, of those that it is to have."),
		text("Up-to-date", "Pods of the newest template."),
		text("Available", "Pods that have been ready for long enough."),
		ageColumn, containersColumn, imagesColumn, selectorColumn),

	kind[*object.Revision](): columns(revisionCells,
		name("The abbreviated commit."),
		text("Phase", "Rejected, Active, Converged, Failed or Superseded."),
		text("Author", "Who wrote the commit."),
		text("Subject", "The first line of the commit's message."),
		number("Created", "Objects the commit brought into the cluster."),
		number("Changed", "Objects the commit changed."),
		number("Deleted", "Objects the commit removed."),
		text("Age", "Time since the cluster took the commit in."),
		wide(number("Problems", "What rejected the commit, counted.")),
		wide(text("Converged after", "Time from activation until everything ran; <none> if it never did.")),
		wide(text("Branch", "The branch whose head it was.")),
		wide(text("Message", "Why it has not converged, or failed."))),

	kind[*object.Source](): columns(sourceCells,
		name("The object: resource and name."),
		text("Path", "The file that declares it."),
		number("Line", "Where in the file it begins."),
		text("Commit", "The commit that last changed it."),
		text("Author", "Who wrote that commit."),
		text("Age", "Time since the object was first declared.")),

	kind[*object.Cluster](): columns(func(c *object.Cluster) []any {
		return []any{c.Name, c.Spec.PodCIDR, c.Spec.ServiceCIDR, age(c.CreationTimestamp)}
	},
		name("The cluster's id."),
		text("Pod CIDR", "Where Pods' addresses come from."),
		text("Service CIDR", "Where Services' addresses come from."),
		text("Age", "Time since it was first declared.")),

	kind[*object.Server](): columns(func(s *object.Server) []any {
		return []any{s.Name, s.Spec.Address, serverRole(s), s.Spec.Version, age(s.CreationTimestamp)}
	},
		name("What the server is called among the servers."),
		text("Address", "Where agents and Pods reach it."),
		text("Role", "Voter, NonVoter, or Pending as long as it is no member yet."),
		text("Version", "Mainstay's."),
		text("Age", "Time since it was first part of the cluster.")),
}

func kind[T object.Object]() schema.GroupKind { return object.KindFor[T]().GroupKind() }

func serverRole(s *object.Server) string {
	switch {
	case s.Spec.Pending:
		return "Pending"
	case s.Spec.NonVoter:
		return "NonVoter"
	}
	return "Voter"
}
