package sched

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
)

// What a container that asks for nothing weighs in scores, so that such Pods spread too; kube-scheduler's numbers.
const (
	assumedCPU    = 100       // thousandths of a core
	assumedMemory = 200 << 20 // bytes
)

// needs is what a Pod takes from its node. It follows from the Pod's spec alone.
type needs struct {
	amount   [resources]int64
	weight   [2]float64 // cpu and memory for scoring
	extended map[corev1.ResourceName]int64
	ports    []hostPort
}

// demand is a Pod to be placed.
type demand struct {
	*needs
	class *class
	owner types.UID // "" if it has no controller
}

type hostPort struct {
	protocol corev1.Protocol
	ip       string // "" is every address
	port     int32
}

// simple says whether four numbers are all the Pod needs from a node.
func (d *demand) simple() bool { return len(d.ports) == 0 && len(d.extended) == 0 }

// failureKey is equal for simple Pods that fit on the same nodes.
type failureKey struct {
	class  *class
	amount [resources]int64
}

func (d *demand) failureKey() failureKey {
	if !d.simple() {
		return failureKey{}
	}
	return failureKey{d.class, d.amount}
}

// memo remembers the needs of Pods between passes: working them out costs more than anything else here.
type memo struct {
	known map[memoKey]*needs
	seen  map[memoKey]*needs // since the last turn
}

type memoKey struct {
	uid        types.UID
	generation int64
}

func newMemo() *memo { return &memo{known: map[memoKey]*needs{}, seen: map[memoKey]*needs{}} }

// turn forgets the Pods that were not asked for since the last turn.
func (m *memo) turn() { m.known, m.seen = m.seen, make(map[memoKey]*needs, len(m.seen)) }

func (m *memo) needs(p *corev1.Pod) *needs {
	if p.UID == "" { // Not stored yet.
		return needsOf(p)
	}
	key := memoKey{p.UID, p.Generation}
	if n, ok := m.seen[key]; ok {
		return n
	}
	n, ok := m.known[key]
	if !ok {
		n = needsOf(p)
	}
	m.seen[key] = n
	return n
}

func (v *View) demand(p *corev1.Pod) *demand {
	return &demand{needs: v.remembered.needs(p), class: v.classOf(p), owner: ownerOf(p)}
}

func needsOf(p *corev1.Pod) *needs {
	n := &needs{ports: hostPorts(p)}
	n.amount[pods] = 1
	for name, q := range resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}) {
		switch name {
		case corev1.ResourceCPU:
			n.amount[cpu] = q.MilliValue()
		case corev1.ResourceMemory:
			n.amount[memory] = q.Value()
		case corev1.ResourceEphemeralStorage:
			n.amount[disk] = q.Value()
		default:
			if n.extended == nil {
				n.extended = map[corev1.ResourceName]int64{}
			}
			n.extended[name] = q.Value()
		}
	}
	n.weight = [2]float64{float64(n.amount[cpu]), float64(n.amount[memory])}
	for _, c := range p.Spec.Containers {
		if _, asks := c.Resources.Requests[corev1.ResourceCPU]; !asks {
			n.weight[cpu] += assumedCPU
		}
		if _, asks := c.Resources.Requests[corev1.ResourceMemory]; !asks {
			n.weight[memory] += assumedMemory
		}
	}
	return n
}

func hostPorts(p *corev1.Pod) []hostPort {
	var found []hostPort
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			host := port.HostPort
			if host == 0 && p.Spec.HostNetwork {
				host = port.ContainerPort
			}
			if host == 0 {
				continue
			}
			ip, protocol := port.HostIP, port.Protocol
			if ip == "0.0.0.0" || ip == "::" {
				ip = ""
			}
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			found = append(found, hostPort{protocol, ip, host})
		}
	}
	return found
}

func (n *node) portsTaken(wanted []hostPort) bool {
	for _, w := range wanted {
		for _, taken := range n.ports {
			if w.port == taken.port && w.protocol == taken.protocol && (w.ip == "" || taken.ip == "" || w.ip == taken.ip) {
				return true
			}
		}
	}
	return false
}
