package service

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Kubernetes' range of node ports.
const (
	firstPort = 30000
	portCount = 32767 - firstPort + 1
)

// reserved addresses at the start of the range are left to Services that name theirs, such as a DNS at .10.
const reserved = 16

var (
	errNoAddress = errors.New("no cluster address is free: enlarge serviceCIDR in mainstay.yaml")
	errNoPort    = errors.New("no node port between 30000 and 32767 is free: remove a Service of type NodePort")
)

// port is a node port as it is taken: TCP and UDP do not collide.
type port struct {
	protocol corev1.Protocol
	number   int32
}

// taken is what Services have, those the repository names included.
type taken struct {
	addresses map[netip.Addr]bool
	ports     map[port]bool
}

func takenBy(services iter.Seq[*corev1.Service]) *taken {
	t := &taken{addresses: map[netip.Addr]bool{}, ports: map[port]bool{}}
	for svc := range services {
		if addr, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
			t.addresses[addr] = true
		}
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 && hasNodePorts(&svc.Spec) {
				t.ports[port{p.Protocol, p.NodePort}] = true
			}
		}
	}
	return t
}

// settled says whether a Service has all that it is to have, and nothing that its type does not have.
func settled(svc *corev1.Service) bool {
	spec := &svc.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return spec.ClusterIP == "" && len(spec.ClusterIPs) == 0 && portsSettled(spec)
	}
	return spec.ClusterIP != "" && len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] == spec.ClusterIP &&
		len(spec.IPFamilies) > 0 && spec.IPFamilyPolicy != nil && portsSettled(spec)
}

func portsSettled(spec *corev1.ServiceSpec) bool {
	for _, p := range spec.Ports {
		if (p.NodePort != 0) != hasNodePorts(spec) {
			return false
		}
	}
	return true
}

func hasNodePorts(spec *corev1.ServiceSpec) bool {
	switch spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return spec.AllocateLoadBalancerNodePorts == nil || *spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// fillAddress keeps the address that is there, None too, and gives one if there is none.
func fillAddress(spec *corev1.ServiceSpec, key state.Key, cidr netip.Prefix, taken *taken) error {
	single := corev1.IPFamilyPolicySingleStack
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = &single
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if spec.ClusterIP == "" {
		addr, ok := taken.freeAddress(cidr, key)
		if !ok {
			return errNoAddress
		}
		spec.ClusterIP = addr.String()
	}
	spec.ClusterIPs = []string{spec.ClusterIP}
	return nil
}

// freeAddress takes the first free address from the one that the key hashes to.
func (t *taken) freeAddress(cidr netip.Prefix, key state.Key) (netip.Addr, bool) {
	size := uint64(1) << (32 - cidr.Bits())
	skip := min(reserved, size/4)
	if size < 8 {
		return netip.Addr{}, false
	}
	size -= skip + 1 // without the reserved ones and the last, which is the broadcast address
	base := binary.BigEndian.Uint32(cidr.Addr().AsSlice())
	start := hash(key.String()) % size
	for i := range size {
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, base+uint32(skip+(start+i)%size))))
		if !t.addresses[addr] {
			t.addresses[addr] = true
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// fillPorts gives every port a node port, or takes it away, as the type says.
func fillPorts(spec *corev1.ServiceSpec, key state.Key, taken *taken) error {
	for i := range spec.Ports {
		p := &spec.Ports[i]
		if !hasNodePorts(spec) {
			p.NodePort = 0
			continue
		}
		if p.NodePort != 0 {
			continue
		}
		number, ok := taken.freePort(p.Protocol, hash(fmt.Sprintf("%s:%s/%d", key, p.Protocol, p.Port)))
		if !ok {
			return errNoPort
		}
		p.NodePort = number
	}
	return nil
}

func (t *taken) freePort(protocol corev1.Protocol, start uint64) (int32, bool) {
	for i := range uint64(portCount) {
		p := port{protocol, firstPort + int32((start+i)%portCount)}
		if !t.ports[p] {
			t.ports[p] = true
			return p.number, true
		}
	}
	return 0, false
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// said says whether an Event tells of a failure already: it is not counted up with every look at all Services.
func said(r state.Reader, svc *corev1.Service) bool {
	for e := range state.ListBy(r, tables.EventsByObject, string(svc.UID)) {
		if e.Reason == "AllocationFailed" {
			return true
		}
	}
	return false
}
