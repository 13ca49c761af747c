package linktest

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// container is what of a container's spec its status repeats.
type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

// pod is one of an Agent's, guarded by the Agent's mutex.
type pod struct {
	ref        link.PodRef
	containers []container
	host, ip   string
	ready      bool
	message    string // of the condition Ready
	started    metav1.Time
	since      metav1.Time // of the condition Ready
}

// newPod gives a Pod an address that no other Pod here has. The caller holds mu.
func (a *Agent) newPod(ref link.PodRef, containers []container) *pod {
	taken := make(map[string]bool, len(a.pods))
	for _, p := range a.pods {
		taken[p.ip] = true
	}
	ip := a.podCIDR.Addr().Next().Next() // the first is the node's own
	for taken[ip.String()] {
		ip = ip.Next()
	}
	return &pod{ref: ref, containers: containers, host: a.Address.String(), ip: ip.String()}
}

func (p *pod) set(ready corev1.ConditionStatus, message string, now time.Time) {
	p.ready, p.message, p.since = ready == corev1.ConditionTrue, message, metav1.NewTime(now.Truncate(time.Second))
	if p.started.IsZero() {
		p.started = p.since
	}
}

// status is as large as that of a real agent.
func (p *pod) status() corev1.PodStatus {
	is := func(kind corev1.PodConditionType, yes bool, at metav1.Time) corev1.PodCondition {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: at}
		if yes {
			c.Status = corev1.ConditionTrue
		}
		return c
	}
	started, serves := p.started, p.ready // as they are now
	ready := is(corev1.PodReady, p.ready, p.since)
	ready.Message = p.message
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: p.host, HostIPs: []corev1.HostIP{{IP: p.host}}, PodIP: p.ip, PodIPs: []corev1.PodIP{{IP: p.ip}}, StartTime: &started,
		Conditions: []corev1.PodCondition{
			is(corev1.PodReadyToStartContainers, true, p.started), is(corev1.PodInitialized, true, p.started), ready, is(corev1.ContainersReady, p.ready, p.since),
		},
	}
	for _, c := range p.containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: "sha256:0f6c8b1b7b3d0a5f7d2f4a0c8b1e6f3a9d5c7e2b4a6f8d0c1e3b5a7f9d2c4e6a",
			ContainerID: fmt.Sprintf("docker://%s-%s", p.ref.UID, c.Name), Ready: serves, Started: &serves,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: p.started}},
		})
	}
	return s
}

// object is the Pod as a registration tells of it.
func (p *pod) object(uid types.UID) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.ref.Namespace, Name: p.ref.Name, UID: uid}, Status: p.status()}
}

// node is the Node as its agent describes it: 64 cores, 256 GiB, and 110 Pods.
func (a *Agent) node() *corev1.Node {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: a.Name, Labels: map[string]string{
			corev1.LabelHostname: a.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: a.Address.String()}, {Type: corev1.NodeHostName, Address: a.Name}},
			NodeInfo:  corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", KubeletVersion: "linktest", ContainerRuntimeVersion: "none"},
		},
	}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, "EngineResponsive", "LiveRestore", corev1.NodeNetworkUnavailable, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: "Simulated", LastHeartbeatTime: now, LastTransitionTime: now}
		if kind == corev1.NodeReady || kind == "EngineResponsive" || kind == "LiveRestore" {
			c.Status = corev1.ConditionTrue
		}
		n.Status.Conditions = append(n.Status.Conditions, c)
	}
	return n
}

// Address returns the n-th node's address in a range that no host has.
func Address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(18 + n>>16&1), byte(n >> 8), byte(n)})
}
