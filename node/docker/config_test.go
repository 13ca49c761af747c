package docker

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func list(cpu, memory string) corev1.ResourceList {
	out := corev1.ResourceList{}
	if cpu != "" {
		out[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		out[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return out
}

func TestResourcesAreKubernetes(t *testing.T) {
	pids := ptr.To(int64(pidsLimit))
	for name, tc := range map[string]struct {
		requests, limits corev1.ResourceList
		want             container.Resources
	}{
		"none":           {want: container.Resources{CPUShares: 2, PidsLimit: pids}},
		"request":        {requests: list("250m", "1Gi"), want: container.Resources{CPUShares: 256, PidsLimit: pids}},
		"limit":          {limits: list("1500m", "64Mi"), want: container.Resources{CPUShares: 1536, CPUPeriod: 100_000, CPUQuota: 150_000, Memory: 64 << 20, MemorySwap: 64 << 20, PidsLimit: pids}},
		"both":           {requests: list("100m", ""), limits: list("2", ""), want: container.Resources{CPUShares: 102, CPUPeriod: 100_000, CPUQuota: 200_000, PidsLimit: pids}},
		"tiny":           {requests: list("1m", ""), limits: list("1m", ""), want: container.Resources{CPUShares: 2, CPUPeriod: 100_000, CPUQuota: 1000, PidsLimit: pids}},
		"more than ever": {requests: list("1000", ""), want: container.Resources{CPUShares: 262144, PidsLimit: pids}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, resources(corev1.ResourceRequirements{Requests: tc.requests, Limits: tc.limits})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhoIsKilledFirst(t *testing.T) {
	score := func(requests, limits corev1.ResourceList) int {
		p := pod("p")
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
		return oomScore(p, &p.Spec.Containers[0])
	}
	scores := []int{
		score(nil, nil), score(list("1", ""), nil), score(list("", "100Mi"), nil), score(list("", "10Gi"), nil), score(list("1", "1Gi"), list("1", "1Gi")),
	}
	if !slices.IsSortedFunc(scores, func(a, b int) int { return b - a }) || scores[0] != bestEffortOOM || scores[4] != guaranteedOOM {
		t.Errorf("from BestEffort to Guaranteed: %v", scores)
	}
}

func TestSecurityContext(t *testing.T) {
	for name, tc := range map[string]struct {
		pod       corev1.PodSecurityContext
		container corev1.SecurityContext
		want      container.HostConfig
	}{
		"nothing": {},
		"privileged and read only": {
			container: corev1.SecurityContext{Privileged: ptr.To(true), ReadOnlyRootFilesystem: ptr.To(true)},
			want:      container.HostConfig{Privileged: true, ReadonlyRootfs: true},
		},
		"capabilities": {
			container: corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}},
			want:      container.HostConfig{CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}},
		},
		"no new privileges": {
			container: corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false)},
			want:      container.HostConfig{SecurityOpt: []string{"no-new-privileges"}},
		},
		"the container's profile wins": {
			pod:       corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			container: corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}},
			want:      container.HostConfig{SecurityOpt: []string{"seccomp=unconfined"}},
		},
		"groups": {
			pod:  corev1.PodSecurityContext{SupplementalGroups: []int64{7, 8}, FSGroup: ptr.To(int64(9))},
			want: container.HostConfig{GroupAdd: []string{"7", "8", "9"}},
		},
		"AppArmor and SELinux": {
			pod: corev1.PodSecurityContext{
				AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("strict")},
				SELinuxOptions:  &corev1.SELinuxOptions{Level: "s0:c1"},
			},
			want: container.HostConfig{SecurityOpt: []string{"label=level:s0:c1", "apparmor=strict"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod("p")
			p.Spec.SecurityContext, p.Spec.Containers[0].SecurityContext = &tc.pod, &tc.container
			var got container.HostConfig
			check(t, secure(&got, runtime.ContainerConfig{Pod: p, Container: &p.Spec.Containers[0]}))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	outside := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("../../../../etc/passwd")}
	if _, err := seccomp(outside); err == nil {
		t.Error("a seccomp profile outside its directory was read")
	}
}

func TestNonRootIsEnforced(t *testing.T) {
	for user, fine := range map[string]bool{"": false, "0": false, "0:1000": false, "root": false, "app": false, "1000": true, "1000:0": true} {
		if err := refuseRoot(user, "image"); (err == nil) != fine {
			t.Errorf("user %q: %v", user, err)
		}
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + "-b"
	for want, p := range map[string]*corev1.Pod{
		"web":                   pod("web"),
		"given":                 {ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Hostname: "given"}},
		strings.Repeat("a", 62): pod(long),
	} {
		if got := hostname(p); got != want {
			t.Errorf("pod %s is called %q, want %q", p.Name, got, want)
		}
	}
}

func TestHostPortsOfAPod(t *testing.T) {
	p := pod("p")
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{
		{ContainerPort: 80}, {ContainerPort: 53, HostPort: 5353, Protocol: corev1.ProtocolUDP, HostIP: "192.0.2.1"}, {ContainerPort: 81, HostPort: 8081},
	}
	want := []podnet.HostPort{
		{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 5353, Port: 53, Protocol: corev1.ProtocolUDP}, {HostPort: 8081, Port: 81},
	}
	if diff := cmp.Diff(want, hostPorts(p), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	p.Spec.HostNetwork = true
	if got := hostPorts(p); got != nil {
		t.Errorf("on the host's network: %v", got)
	}
}

func TestUidsCannotLeaveTheDataDirectory(t *testing.T) {
	r := &Runtime{config: Config{DataDir: "/data"}}
	for _, uid := range []string{"", ".", "..", "../x", "a/b", "/etc"} {
		if dir, err := r.podDir(uid); err == nil {
			t.Errorf("uid %q gives %s", uid, dir)
		}
	}
}

// TestEngineTimesAreMadeSane: Docker 20.10 reports a container that ends at once as finished before it started.
func TestEngineTimesAreMadeSane(t *testing.T) {
	var c container.InspectResponse
	c.ContainerJSONBase = &container.ContainerJSONBase{State: &container.State{
		Status: container.StateExited, StartedAt: "2026-01-02T03:04:05.2Z", FinishedAt: "2026-01-02T03:04:05.1Z",
	}}
	if d := describe(c); d.Finished.Before(d.Started) {
		t.Errorf("finished %s, started %s", d.Finished, d.Started)
	}
	c.State = &container.State{Status: container.StateRunning, StartedAt: "2026-01-02T03:04:05Z", FinishedAt: "0001-01-01T00:00:00Z"}
	if d := describe(c); !d.Finished.IsZero() {
		t.Errorf("a running container finished at %s", d.Finished)
	}
}
