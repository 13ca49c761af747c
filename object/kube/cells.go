package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/object"
)

func serviceCells(s *corev1.Service) []any {
	var clusterIP string
	if len(s.Spec.ClusterIPs) > 0 {
		clusterIP = s.Spec.ClusterIPs[0]
	}
	var ports []string
	for _, p := range s.Spec.Ports {
		number := fmt.Sprint(p.Port)
		if p.NodePort > 0 {
			number += fmt.Sprintf(":%d", p.NodePort)
		}
		ports = append(ports, number+"/"+string(p.Protocol))
	}
	return []any{s.Name, string(s.Spec.Type), orNone(clusterIP), externalAddress(s), orNone(strings.Join(ports, ",")), age(s.CreationTimestamp),
		labels.FormatLabels(s.Spec.Selector)}
}

func externalAddress(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return orNone(strings.Join(s.Spec.ExternalIPs, ","))
	case corev1.ServiceTypeLoadBalancer:
		var balancers []string
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			if address := cmp.Or(ingress.IP, ingress.Hostname); address != "" {
				balancers = append(balancers, address)
			}
		}
		slices.Sort(balancers)
		addresses := append(slices.Compact(balancers), s.Spec.ExternalIPs...)
		return cmp.Or(strings.Join(addresses, ","), "<pending>")
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return "<unknown>"
}

func endpointSliceCells(s *discoveryv1.EndpointSlice) []any {
	var ports, addresses []string
	for _, p := range s.Ports {
		port := ptr.Deref(p.Name, "*")
		if p.Port != nil {
			port = strconv.Itoa(int(*p.Port))
		}
		ports = append(ports, port)
	}
	for _, e := range s.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return []any{s.Name, string(s.AddressType), firstOf(ports), firstOf(addresses), age(s.CreationTimestamp)}
}

// firstOf lists as many as fit a column.
func firstOf(all []string) string {
	const shown = 3
	if len(all) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:shown], ","), len(all)-shown)
	}
	return cmp.Or(strings.Join(all, ","), "<unset>")
}

func nodeCells(n *corev1.Node) []any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			status = "Ready"
		} else if c.Type == corev1.NodeReady {
			status = "NotReady"
		}
	}
	if !object.Joined(n) {
		status = "NotJoined" // a repository or a snapshot names it; Kubernetes has no such nodes
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	info := n.Status.NodeInfo
	kernel := cmp.Or(info.KernelVersion, "<unknown>")
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{n.Name, status, orNone(nodeRoles(n)), age(n.CreationTimestamp), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		cmp.Or(info.OSImage, "<unknown>"), kernel, cmp.Or(info.ContainerRuntimeVersion, "<unknown>")}
}

// nodeRoles are in labels, in the newer form node-role.kubernetes.io/ROLE or the older kubernetes.io/role=ROLE.
func nodeRoles(n *corev1.Node) string {
	roles := map[string]bool{}
	for key, value := range n.Labels {
		role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/")
		if !ok && key == "kubernetes.io/role" {
			role, ok = value, true
		}
		if ok && role != "" {
			roles[role] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(roles)), ",")
}

func nodeAddress(n *corev1.Node, of corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == of {
			return a.Address
		}
	}
	return "<none>"
}

func eventCells(e *corev1.Event) []any {
	first, count := age(e.FirstTimestamp), max(e.Count, 1)
	if e.FirstTimestamp.IsZero() {
		first = ageOfMicro(e.EventTime)
	}
	last := first
	if !e.LastTimestamp.IsZero() {
		last = age(e.LastTimestamp)
	}
	if e.Series != nil {
		last, count = ageOfMicro(e.Series.LastObservedTime), e.Series.Count
	}
	target := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		target += "/" + e.InvolvedObject.Name
	}
	source := cmp.Or(e.Source.Component, e.ReportingController)
	if instance := cmp.Or(e.Source.Host, e.ReportingInstance); instance != "" {
		source += ", " + instance
	}
	return []any{last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), first, int64(count), e.Name}
}

func ageOfMicro(t metav1.MicroTime) string { return age(metav1.NewTime(t.Time)) }

func replicaSetCells(rs *appsv1.ReplicaSet) []any {
	names, images := containerCells(&rs.Spec.Template)
	return []any{rs.Name, int64(ptr.Deref(rs.Spec.Replicas, 0)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas), age(rs.CreationTimestamp),
		names, images, metav1.FormatLabelSelector(rs.Spec.Selector)}
}

func deploymentCells(d *appsv1.Deployment) []any {
	names, images := containerCells(&d.Spec.Template)
	selected := "<invalid>"
	if selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil {
		selected = selector.String()
	}
	ready := fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 0))
	return []any{d.Name, ready, int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), age(d.CreationTimestamp), names, images, selected}
}

func containerCells(template *corev1.PodTemplateSpec) (names, images string) {
	var n, i []string
	for _, c := range template.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func revisionCells(r *object.Revision) []any {
	s := r.Status
	took := "<none>"
	if s.Phase == object.RevisionConverged && s.ActivatedAt != nil && s.EndedAt != nil {
		took = duration.HumanDuration(s.EndedAt.Sub(s.ActivatedAt.Time))
	}
	problems := max(int64(s.ProblemsAll), int64(len(s.Problems)))
	return []any{r.Name, s.Phase, authorName(r.Spec.Author), object.Shorten(r.Spec.Subject), int64(s.Created), int64(s.Changed), int64(s.Deleted),
		age(r.CreationTimestamp), problems, took, r.Spec.Branch, orNone(object.Printable(s.Message))}
}

func sourceCells(s *object.Source) []any {
	commit := s.Spec.Commit
	if len(commit) > 12 {
		commit = commit[:12]
	}
	return []any{s.Name, object.Printable(s.Spec.Path), int64(s.Spec.Line), commit, authorName(s.Spec.Author), age(s.CreationTimestamp)}
}

// orNA is a number or a part, where one is given.
func orNA(value *intstr.IntOrString) string {
	if value == nil {
		return "N/A"
	}
	return value.String()
}
