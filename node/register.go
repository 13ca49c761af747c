package node

import (
	"cmp"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/object"
)

const (
	// maxPods is how many Pods a node takes; Kubernetes' number.
	maxPods = 110
	// maxImages is how many images a node tells of besides those pulled ahead, the largest first; Kubernetes' number.
	maxImages = 50
	// Conditions of Mainstay's own on the Node.
	conditionLiveRestore = "LiveRestore"
	conditionEngine      = "EngineResponsive"
)

// vitals is what the node's conditions are made of.
type vitals struct {
	Info         runtime.Info
	Strain       strain // nil: nothing was noted
	EngineError  string // why the engine could not be asked; empty if it could
	Silent       time.Duration
	Networked    bool   // the Pod range is in use
	NetworkError string // why a known Pod range cannot be used; empty if it is, or none is known
	RoutingError string // what of the cluster's network is not as it should be here
	Ahead        ahead
}

// newNode describes the node, labels and all.
func newNode(cfg *Config, ips []string, v vitals, now time.Time) *corev1.Node {
	n := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: cfg.Name, Labels: map[string]string{
			corev1.LabelHostname: cfg.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: v.Info.Architecture,
		}},
	}
	n.Status = nodeStatus(cfg, ips, v, now)
	return n
}

func nodeStatus(cfg *Config, ips []string, v vitals, now time.Time) corev1.NodeStatus {
	s := corev1.NodeStatus{
		Capacity:   capacity(v.Info),
		Conditions: conditions(v, metav1.NewTime(now.Truncate(time.Second))),
		Images:     images(v.Info.Images, v.Ahead.Pulled),
		NodeInfo: corev1.NodeSystemInfo{
			MachineID: fileID("/etc/machine-id"), SystemUUID: fileID("/sys/class/dmi/id/product_uuid"), BootID: fileID("/proc/sys/kernel/random/boot_id"),
			KernelVersion: v.Info.KernelVersion, OSImage: v.Info.OperatingSystem, ContainerRuntimeVersion: v.Info.Engine,
			KubeletVersion: cfg.Version, OperatingSystem: "linux", Architecture: v.Info.Architecture,
		},
	}
	s.Allocatable = allocatable(v.Info)
	for _, ip := range ips {
		s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	s.Addresses = append(s.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: cfg.Name})
	return s
}

func capacity(info runtime.Info) corev1.ResourceList {
	list := info.Capacity.DeepCopy()
	if list == nil {
		list = corev1.ResourceList{}
	}
	list[corev1.ResourcePods] = *resource.NewQuantity(maxPods, resource.DecimalSI)
	return list
}

// allocatable is the capacity without what the engine itself needs.
func allocatable(info runtime.Info) corev1.ResourceList {
	list := capacity(info)
	if memory, ok := list[corev1.ResourceMemory]; ok && info.ReservedOverhead.Sign() > 0 && info.ReservedOverhead.Cmp(memory) < 0 {
		memory.Sub(info.ReservedOverhead)
		list[corev1.ResourceMemory] = memory
	}
	return list
}

// images are those pulled ahead, by the names they were wanted by, and the largest of all.
func images(all []corev1.ContainerImage, pulled []string) []corev1.ContainerImage {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b corev1.ContainerImage) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })
	shown := all[:min(len(all), maxImages)]
	for _, name := range pulled {
		named := func(i corev1.ContainerImage) bool { return slices.Contains(i.Names, name) }
		if slices.ContainsFunc(shown, named) {
			continue
		}
		image := corev1.ContainerImage{Names: []string{name}} // the engine knows it by another name
		if i := slices.IndexFunc(all, named); i >= 0 {
			image = all[i]
		}
		shown = append(shown[:len(shown):len(shown)], image)
	}
	return shown
}

// readyAndEngine are whether the node may be given Pods, and whether its engine answers.
func readyAndEngine(v vitals) (ready, engine corev1.NodeCondition) {
	ready = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "AgentReady", Message: "the agent runs and its engine answers"}
	switch {
	case v.EngineError != "" && v.Silent >= silentIsNotReady:
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "EngineUnresponsive", v.EngineError
	case !v.Networked:
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "NetworkNotReady", cmp.Or(v.NetworkError, "the Pod address range is not configured")
	}
	engine = corev1.NodeCondition{Type: conditionEngine, Status: corev1.ConditionTrue, Reason: "EngineAnswers"}
	if v.EngineError != "" {
		engine.Status, engine.Reason, engine.Message = corev1.ConditionFalse, "EngineUnresponsive", v.EngineError
	}
	return ready, engine
}

// conditions are those of Kubernetes and Mainstay's own. Their times are right only where they changed; see keepTimes.
func conditions(v vitals, now metav1.Time) []corev1.NodeCondition {
	ready, engine := readyAndEngine(v)
	live := corev1.NodeCondition{Type: conditionLiveRestore, Status: corev1.ConditionTrue, Reason: "LiveRestoreEnabled"}
	if !v.Info.LiveRestore {
		live.Status, live.Reason = corev1.ConditionFalse, "LiveRestoreDisabled"
		live.Message = `containers stop when the engine restarts: set "live-restore": true in /etc/docker/daemon.json`
	}
	pulled := corev1.NodeCondition{Type: object.PullCondition, Status: corev1.ConditionTrue, Reason: "NoPullFailed"}
	if v.Ahead.Failures != "" {
		pulled.Status, pulled.Reason, pulled.Message = corev1.ConditionFalse, "PullFailed", v.Ahead.Failures
	}
	routed := corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "RoutesInPlace"}
	if v.RoutingError != "" {
		routed.Status, routed.Reason, routed.Message = corev1.ConditionTrue, "RoutingFailed", v.RoutingError
	}
	all := append([]corev1.NodeCondition{ready, engine, live, pulled, routed}, v.Strain.conditions(v.Info.Room, now.Time)...)
	for i := range all {
		all[i].LastHeartbeatTime, all[i].LastTransitionTime = now, now
	}
	return all
}

// keepTimes gives conditions that are as they were the times they had, so that nothing changed means equal.
func keepTimes(s *corev1.NodeStatus, before *corev1.NodeStatus) {
	for i := range s.Conditions {
		c := &s.Conditions[i]
		for _, old := range before.Conditions {
			if old.Type == c.Type && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
				if old.Reason == c.Reason && old.Message == c.Message {
					c.LastHeartbeatTime = old.LastHeartbeatTime
				}
			}
		}
	}
}

// fileID reads an identity the system keeps in a file; empty if it keeps none.
func fileID(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "" // not every system has it
	}
	return strings.TrimSpace(string(raw))
}

// HostIP is the address this host would use to reach others; no packet is sent to find out.
func HostIP() netip.Addr {
	conn, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}) // a host without a network is a node of its own
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// hostIPs is the configured address, or else HostIP.
func hostIPs(configured netip.Addr) []string {
	if !configured.IsValid() {
		configured = HostIP()
	}
	return []string{configured.String()}
}

// architecture stands in where the engine does not say its own.
func architecture(info *runtime.Info) {
	if info.Architecture == "" {
		info.Architecture = goruntime.GOARCH
	}
}
