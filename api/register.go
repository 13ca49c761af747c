package api

import (
	"context"
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// AddressAnnotation of a Node is host:port where its agent serves logs.
	AddressAnnotation = "mainstay.dev/address"
	// nodeBits is the size of each node's part of the Pod range.
	nodeBits = 24
)

// register takes a node in, or notes what has changed about it. A node that was unknown brings its Pods with it.
func (a *API) register(ctx context.Context, id Identity, req link.Registration) (link.Registered, error) {
	if err := itself(id, req.Node.Name); err != nil {
		return link.Registered{}, err
	}
	var out link.Registered
	_, err := a.Store.Update(ctx, func(tx *state.Txn) (err error) {
		out, err = admit(tx, req)
		return err
	})
	if err != nil {
		return link.Registered{}, err
	}
	a.seen(id.Name)
	a.Log.Debug("registration answered", "node", id.Name, "podCIDR", out.PodCIDR, "adopted", out.Adopted) // the agent tells of it
	return out, nil
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
	out := link.Registered{ClusterCIDR: cluster.Spec.PodCIDR}
	if out.ClusterCIDR == "" {
		out.ClusterCIDR = kube.DefaultPodCIDR
	}
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
	if !known {
		tx.Create(node)
		out.Adopted = adopt(tx, req)
		return out, nil
	}
	tx.Update(node)
	tx.SetStatus(node)
	return out, nil
}

// nodeFrom is the Node as the agent describes it. What the agent does not speak of stays: taints, and labels of others.
func nodeFrom(before *corev1.Node, req link.Registration) *corev1.Node {
	node := &corev1.Node{}
	if before != nil {
		node = before.DeepCopy()
	}
	node.Name = req.Node.Name
	node.Labels = merged(node.Labels, req.Node.Labels)
	node.Annotations = merged(node.Annotations, req.Node.Annotations)
	node.Annotations[AddressAnnotation] = req.Address
	node.Status = req.Node.Status
	return node
}

func merged(old, newer map[string]string) map[string]string {
	out := make(map[string]string, len(old)+len(newer)+1)
	maps.Copy(out, old)
	maps.Copy(out, newer)
	return out
}

// agentAddress is where a node's agent serves logs.
func agentAddress(view state.Reader, node string) (string, error) {
	n, ok := state.Get[*corev1.Node](view, state.Key{Name: node})
	if !ok || n.Annotations[AddressAnnotation] == "" {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has not said where its agent can be reached", node))
	}
	return n.Annotations[AddressAnnotation], nil
}

// freeRange chooses a part of the cluster's range for a new node: the one its Pods already have addresses in, so that a
// rebuilt server keeps them, else the lowest that no node has.
func freeRange(r state.Reader, clusterCIDR string, req link.Registration) (string, error) {
	whole, err := netip.ParsePrefix(clusterCIDR)
	if err != nil {
		return "", fmt.Errorf("podCIDR of the cluster: %w", err)
	}
	bits := max(nodeBits, whole.Bits())
	taken := map[netip.Prefix]bool{}
	for n := range state.List[*corev1.Node](r, "") {
		if p, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil {
			taken[p.Masked()] = true
		}
	}
	for _, pod := range req.Pods {
		ip, err := netip.ParseAddr(pod.Status.PodIP)
		if err != nil || !whole.Contains(ip) {
			continue
		}
		if p, err := ip.Prefix(bits); err == nil && !taken[p] {
			return p.String(), nil
		}
	}
	for p := netip.PrefixFrom(whole.Masked().Addr(), bits); whole.Contains(p.Addr()); p = next(p) {
		if !taken[p] {
			return p.String(), nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf(
		"every /%d of %s belongs to a node: give the cluster a larger spec.podCIDR", bits, clusterCIDR))
}

// next is the range after p of the same size. Past the last one it is the invalid prefix.
func next(p netip.Prefix) netip.Prefix {
	raw := p.Addr().AsSlice()
	for i := (p.Bits() - 1) / 8; i >= 0; i-- {
		step := byte(1)
		if i == (p.Bits()-1)/8 {
			step = 1 << (7 - (p.Bits()-1)%8)
		}
		raw[i] += step
		if raw[i] >= step {
			addr, _ := netip.AddrFromSlice(raw) // raw has the length of an address
			return netip.PrefixFrom(addr, p.Bits())
		}
	}
	return netip.Prefix{}
}

// adopt takes in the Pods that run on a node that was unknown: the server has lost its memory, and they are it. Owners are
// left out, since theirs are gone with it; controllers adopt Pods anew by their labels.
func adopt(tx *state.Txn, req link.Registration) (n int) {
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
		pod.OwnerReferences, pod.ResourceVersion, pod.ManagedFields = nil, "", nil
		tx.Create(pod)
		n++
	}
	return n
}
