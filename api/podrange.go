package api

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// newcomersWait is how long a cluster that was rebuilt waits for the first node of before until it takes in new ones: none may
	// be left.
	newcomersWait = 2 * time.Minute
	// nodeBits is the size of each node's part of the Pod range.
	nodeBits = 24
)

// freeRange chooses a part of the cluster's range for a new node: the one it says it had, or its Pods already have addresses in, so
// that a rebuilt server keeps them, else the lowest that no node has. As long as others may still come back to theirs, a node
// that is new is not given one.
func freeRange(r state.Reader, clusterCIDR string, req link.Registration) (string, error) {
	whole, err := netip.ParsePrefix(clusterCIDR)
	if err != nil {
		return "", fmt.Errorf("podCIDR of the cluster: %w", err)
	}
	bits := max(nodeBits, whole.Bits())
	taken := rangesOfNodes(r)
	for _, p := range rangesOf(req) {
		if p, err := p.Addr().Prefix(bits); err == nil && whole.Contains(p.Addr()) && !taken[p] {
			return p.String(), nil
		}
	}
	if len(req.Pods) == 0 && othersMayReturn(r, taken) {
		return "", apierrors.NewServiceUnavailable("the cluster is being rebuilt: a new node is taken in once those of before have had time to return")
	}
	for p := netip.PrefixFrom(whole.Masked().Addr(), bits); whole.Contains(p.Addr()); p = next(p) {
		if !taken[p] {
			return p.String(), nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf(
		"every /%d of %s belongs to a node: give the cluster a larger spec.podCIDR", bits, clusterCIDR))
}

func rangesOfNodes(r state.Reader) map[netip.Prefix]bool {
	taken := map[netip.Prefix]bool{}
	for n := range state.List[*corev1.Node](r, "") {
		if p, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil {
			taken[p.Masked()] = true
		}
	}
	return taken
}

// rangesOf are where a node that registers has had addresses for its Pods, or has Pods.
func rangesOf(req link.Registration) (all []netip.Prefix) {
	if p, err := netip.ParsePrefix(req.Node.Spec.PodCIDR); err == nil {
		all = append(all, p)
	}
	for _, pod := range req.Pods {
		if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil {
			all = append(all, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return all
}

// othersMayReturn says whether nodes may hold ranges that the store does not know.
func othersMayReturn(r state.Reader, taken map[netip.Prefix]bool) bool {
	cluster := clusterOf(r)
	return object.IsRecovering(cluster) && (len(taken) > 0 || time.Since(cluster.CreationTimestamp.Time) < newcomersWait)
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
