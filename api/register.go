package api

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	// AddressAnnotation of a Node is host:port where its agent serves logs.
	AddressAnnotation = "mainstay.dev/address"
	// rebuildTime is how long the nodes of a cluster that was rebuilt from its repository have to come and bring their Pods.
	rebuildTime = 24 * time.Hour
)

// register takes a node in, or notes what has changed about it. A node that was unknown brings its Pods with it.
func (a *API) register(ctx context.Context, id Identity, req link.Registration) (link.Registered, error) {
	if err := itself(id, req.Node.Name); err != nil {
		return link.Registered{}, err
	}
	req.Node.Annotations = map[string]string{object.MachineAnnotation: id.Machine} // as its certificate says; it has no say in any
	out, err := a.admitInTurn(ctx, req)
	if err != nil {
		return link.Registered{}, err
	}
	a.Log.Debug("registration answered", "node", id.Name, "podCIDR", out.PodCIDR, "adopted", out.Adopted) // the agent tells of it
	return out, nil
}

// admission is a node that waits for a range of Pod addresses.
type admission struct {
	req  link.Registration
	done chan admitted // capacity 1: the other side may have left
}

type admitted struct {
	link.Registered
	err error
}

// admitInTurn takes a node in. One that has no range yet has to wait its turn: two that look for a free one at the same time
// would both find the same, and nothing that either writes would conflict with what the other does.
//
// Whoever leaves is taken in all the same: a range that is on its way to the log must not be found free by the next.
func (a *API) admitInTurn(ctx context.Context, req link.Registration) (link.Registered, error) {
	if node, ok := state.Get[*corev1.Node](a.Store.View(), state.Key{Name: req.Node.Name}); ok && node.Spec.PodCIDR != "" {
		return a.admitAlone(ctx, req)
	}
	next := admission{req: req, done: make(chan admitted, 1)}
	select {
	case a.admissions <- next:
	case <-ctx.Done():
		return link.Registered{}, context.Cause(ctx)
	}
	select {
	case out := <-next.done:
		return out.Registered, out.err
	case <-ctx.Done():
		return link.Registered{}, context.Cause(ctx)
	}
}

// admitAlone takes in a node that keeps its range.
func (a *API) admitAlone(ctx context.Context, req link.Registration) (out link.Registered, err error) {
	version, err := a.Store.Update(ctx, func(tx *state.Txn) (err error) {
		out, err = a.admit(tx, req)
		return err
	})
	out.Version = uint64(version)
	return out, err
}

// admissionsAtOnce is how many nodes share a transaction: a rack that starts at once waits for few entries of the log.
const admissionsAtOnce = 64

// admitThoseWaiting takes in those that wait, until ctx ends.
func (a *API) admitThoseWaiting(ctx context.Context) error {
	for {
		select {
		case first := <-a.admissions:
			a.admitTogether(ctx, a.waitingWith(first))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *API) waitingWith(first admission) []admission {
	all := []admission{first}
	for len(all) < admissionsAtOnce {
		select {
		case next := <-a.admissions:
			all = append(all, next)
		default:
			return all
		}
	}
	return all
}

// admitTogether takes nodes in by one transaction, in which each sees those before it. If that cannot be written, each gets
// one of its own, so that none fails for another's sake.
func (a *API) admitTogether(ctx context.Context, nodes []admission) {
	out := make([]admitted, len(nodes))
	version, err := a.Store.Update(ctx, func(tx *state.Txn) error {
		for i, next := range nodes {
			out[i].Registered, out[i].err = a.admit(tx, next.req)
		}
		return nil
	})
	for i, next := range nodes {
		switch {
		case err == nil:
			out[i].Version = uint64(version)
			next.done <- out[i]
		case len(nodes) > 1:
			a.admitTogether(ctx, nodes[i:i+1])
		default:
			next.done <- admitted{err: err}
		}
	}
}

// admit writes a registration, and notes that the node lives before anybody looks at it and finds it silent.
func (a *API) admit(tx *state.Txn, req link.Registration) (link.Registered, error) {
	out, err := admit(tx, req)
	if err == nil {
		a.seen(req.Node.Name)
	}
	return out, err
}

// admit writes a registration.
func admit(tx *state.Txn, req link.Registration) (link.Registered, error) {
	name := req.Node.Name
	cluster := clusterOf(tx)
	if cluster.Name == "" {
		return link.Registered{}, apierrors.NewServiceUnavailable("this server does not know its cluster yet")
	}
	if req.Cluster != cluster.Name {
		return link.Registered{}, apierrors.NewConflict(link.NodesResource, name, fmt.Errorf(
			"the agent belongs to cluster %q and this server to cluster %q: point the agent at its own servers, or clear its data directory", req.Cluster, cluster.Name))
	}
	out := welcome(tx, cluster)
	before, known := state.Get[*corev1.Node](tx, state.Key{Name: name})
	node := nodeFrom(before, req)
	if node.Spec.PodCIDR == "" {
		cidr, err := freeRange(tx, out.ClusterCIDR, req)
		if err != nil {
			return link.Registered{}, err
		}
		node.Spec.PodCIDR, node.Spec.PodCIDRs = cidr, []string{cidr}
	}
	out.PodCIDR = node.Spec.PodCIDR
	switch {
	case !known:
		tx.Create(node)
		out.Adopted = adopt(tx, cluster, node, req)
		return out, nil
	case !object.Joined(before): // declared before it came
		out.Adopted = adopt(tx, cluster, node, req)
	default:
		compare(tx, req, before, node)
	}
	tx.Update(node)
	tx.SetStatus(node)
	return out, nil
}

// welcome is what every node of the cluster is told.
func welcome(r state.Reader, cluster *object.Cluster) link.Registered {
	out := link.Registered{
		ClusterCIDR: cmp.Or(cluster.Spec.PodCIDR, kube.DefaultPodCIDR), Store: cluster.Status.Store, Servers: tables.ServerAddresses(r),
	}
	if services, err := netip.ParsePrefix(cmp.Or(cluster.Spec.ServiceCIDR, kube.DefaultServiceCIDR)); err == nil {
		out.DNS = object.NameServiceAddress(services).String()
	}
	return out
}

// compare writes what a known node's Pods are like now. Those of a node that was given up are what it says; a node that only
// restarted its agent may not know yet whether they are Ready, and will report it. Those it does not have, since it is new
// under an old name or its engine has lost them, serve nobody until it has started them.
func compare(tx *state.Txn, req link.Registration, before, node *corev1.Node) {
	has := make(map[types.UID]bool, len(req.Pods))
	for i := range req.Pods {
		pod := &req.Pods[i]
		has[pod.UID] = true
		if !object.Silent(before) || pod.Status.Phase == "" {
			continue
		}
		reportPod(tx, node, link.PodStatus{
			PodRef: link.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}, Status: pod.Status,
		})
	}
	for pod := range state.ListBy(tx, tables.PodsByNode, req.Node.Name) {
		i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
		if has[pod.UID] || i < 0 || pod.Status.Conditions[i].Status != corev1.ConditionTrue {
			continue
		}
		absent := pod.DeepCopy()
		c := &absent.Status.Conditions[i]
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "NotOnNode", "node "+req.Node.Name+" registered without this Pod and has yet to start it"
		c.LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
		tx.SetStatus(absent)
	}
}

// agentLabels are those an agent may give its own node. All others are Git's: Pods are kept on or off nodes by labels, and a
// node that chose its own could draw to it what is not meant for it.
var agentLabels = []string{corev1.LabelOSStable, corev1.LabelArchStable}

// nodeFrom is the Node as the agent describes it. What the agent has no say in stays: taints, annotations, and labels of others.
func nodeFrom(before *corev1.Node, req link.Registration) *corev1.Node {
	node := &corev1.Node{}
	if before != nil {
		node = before.DeepCopy()
	}
	node.Name = req.Node.Name
	said := map[string]string{corev1.LabelHostname: node.Name}
	for _, key := range agentLabels {
		if value, ok := req.Node.Labels[key]; ok {
			said[key] = value
		}
	}
	node.Labels = merged(node.Labels, said)
	node.Annotations = merged(node.Annotations, map[string]string{AddressAnnotation: req.Address})
	if machine := req.Node.Annotations[object.MachineAnnotation]; machine != "" && node.Annotations[object.MachineAnnotation] == "" {
		node.Annotations[object.MachineAnnotation] = machine
	}
	node.Status = req.Node.Status
	return node
}

func merged(old, newer map[string]string) map[string]string {
	out := make(map[string]string, len(old)+len(newer)+1)
	maps.Copy(out, old)
	maps.Copy(out, newer)
	return out
}

// AgentAddress is where a node's agent serves logs, as host:port.
func AgentAddress(view state.Reader, node string) (string, error) {
	n, ok := state.Get[*corev1.Node](view, state.Key{Name: node})
	if !ok || n.Annotations[AddressAnnotation] == "" {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has not said where its agent can be reached", node))
	}
	return n.Annotations[AddressAnnotation], nil
}

// adopt takes in the Pods that run on a node that was unknown: the server has lost its memory, and they are it. Owners are
// left out, since theirs are gone with it; controllers adopt Pods anew by their labels. A server that has known its cluster
// for long has not lost its memory: a node that brings Pods then could make them up. Their addresses count only as far as they
// are the node's.
func adopt(tx *state.Txn, cluster *object.Cluster, node *corev1.Node, req link.Registration) (n int) {
	if cluster.Status.Revision != "" && time.Since(cluster.CreationTimestamp.Time) > rebuildTime {
		return 0
	}
	for i := range req.Pods {
		pod := req.Pods[i].DeepCopy()
		if pod.Name == "" || pod.Namespace == "" || pod.UID == "" {
			continue
		}
		if there, ok := state.Get[*corev1.Pod](tx, state.KeyOf(pod)); ok {
			if there.Spec.NodeName != "" {
				continue // it lives, here or elsewhere
			}
			tx.Delete(there)
		}
		pod.Spec.NodeName = req.Node.Name // it runs there, under whatever name the node had when it was made
		ownAddresses(&pod.Status, pod, node)
		pod.OwnerReferences, pod.ResourceVersion, pod.ManagedFields = nil, "", nil
		tx.Create(pod)
		n++
	}
	return n
}
