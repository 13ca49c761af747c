package docker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/object"
)

const (
	sandboxShares = 2
	maxHostname   = 63
	maxFQDN       = 64
	hostMode      = "host"
)

// EnsureSandbox implements runtime.Runtime.
func (r *Runtime) EnsureSandbox(ctx context.Context, p *corev1.Pod) (runtime.Sandbox, error) {
	defer r.pods.lock(string(p.UID))()
	s, err := r.ensureSandbox(ctx, p)
	if err != nil {
		return runtime.Sandbox{}, fmt.Errorf("sandbox of pod %s: %w", podName(p), err)
	}
	return s, nil
}

func (r *Runtime) ensureSandbox(ctx context.Context, p *corev1.Pod) (runtime.Sandbox, error) {
	network, err := r.plugger()
	if err != nil {
		return runtime.Sandbox{}, err
	}
	c, err := r.findSandbox(ctx, p)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	fit, err := usable(network, p, c)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	if !fit {
		if c, err = r.replaceSandbox(ctx, p, c); err != nil {
			return runtime.Sandbox{}, err
		}
	}
	if c.State.Paused { // by somebody else; looks do not count it as running
		if err := r.UnpauseContainer(ctx, c.ID); err != nil {
			return runtime.Sandbox{}, err
		}
	}
	id, _ := r.identify(c.Config.Labels)
	s := runtime.Sandbox{UID: p.UID, ID: c.ID, Running: true, Created: id.created, IP: r.config.NodeIP}
	if p.Spec.HostNetwork {
		return s, r.writePodFiles(p, s.IP)
	}
	ns, err := openNetNS(c.ID, c.State.Pid)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	defer ns.Close()
	s.IP, err = network.Plug(ctx, podnet.Port{Key: c.ID, NetNS: "/proc/self/fd/" + strconv.Itoa(int(ns.Fd())), HostPorts: hostPorts(p)})
	if err != nil {
		return runtime.Sandbox{}, err
	}
	return s, r.writePodFiles(p, s.IP)
}

// usable tells whether a Pod's sandbox runs, and with an address of the node's range if it has one.
func usable(network *podnet.Network, p *corev1.Pod, c *container.InspectResponse) (bool, error) {
	if c == nil || !c.State.Running {
		return false, nil
	}
	if p.Spec.HostNetwork {
		return true, nil
	}
	strange, err := network.Strange(c.ID)
	return !strange, err
}

// openNetNS opens the network namespace that a sandbox's process is in. It is an error if the process is not the sandbox's
// any more, or in the agent's own namespace: another one's must not be plugged.
func openNetNS(id string, pid int) (*os.File, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/ns/net"
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// Whose it is, is asked after it was opened: pids are reused, open files are not.
	if err := checkNetNS(ns, id, pid); err != nil {
		return nil, errors.Join(fmt.Errorf("network namespace %s: %w", path, err), ns.Close())
	}
	return ns, nil
}

func checkNetNS(ns *os.File, id string, pid int) error {
	if !inContainer(pid, id) {
		return fmt.Errorf("process %d is not that of container %s any more", pid, id)
	}
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return err
	}
	opened, err := ns.Stat()
	if err != nil {
		return err
	}
	if os.SameFile(own, opened) {
		return errors.New("it is the host's own")
	}
	return nil
}

// inContainer tells whether a process is one of the container's: its control group says so. What the engine last knew of a
// pid may be of another process by now.
func inContainer(pid int, id string) bool {
	group, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && strings.Contains(string(group), id)
}

// findSandbox returns the Pod's sandbox, nil if there is none.
func (r *Runtime) findSandbox(ctx context.Context, p *corev1.Pod) (*container.InspectResponse, error) {
	id, looked := r.known.sandbox(p.UID)
	if !looked {
		if _, err := r.Pods(ctx); err != nil {
			return nil, err
		}
		id, _ = r.known.sandbox(p.UID)
	}
	if id == "" {
		return nil, nil
	}
	found, err := r.inspect(ctx, id)
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	return &found, err
}

// replaceSandbox makes a new sandbox. If there was one before, what shared its network goes first.
func (r *Runtime) replaceSandbox(ctx context.Context, p *corev1.Pod, old *container.InspectResponse) (*container.InspectResponse, error) {
	if err := r.clearBefore(ctx, p, old); err != nil {
		return nil, err
	}
	id, err := r.createSandbox(ctx, p)
	if cerrdefs.IsNotFound(err) { // the image
		if err = r.loadPause(ctx); err == nil {
			id, err = r.createSandbox(ctx, p)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := r.startByID(ctx, id); err != nil {
		return nil, err
	}
	r.known.setSandbox(p.UID, id)
	started, err := r.inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	if !started.State.Running {
		return nil, fmt.Errorf("it ended at once with exit code %d: %s", started.State.ExitCode, started.State.Error)
	}
	return &started, nil
}

// clearBefore kills what runs in the network namespace of a dead or lost sandbox, drops what was made for it and never ran,
// and removes it. A Pod that is new to this runtime has nothing to be cleared.
func (r *Runtime) clearBefore(ctx context.Context, p *corev1.Pod, old *container.InspectResponse) error {
	if old == nil && !r.known.has(p.UID) {
		return nil
	}
	list, err := r.list(ctx, labelUID+"="+string(p.UID))
	if err != nil {
		return err
	}
	for _, c := range list {
		if id, ours := r.identify(c.Labels); !ours || id.container == sandboxName {
			continue
		}
		switch stateOf(string(c.State)) {
		case runtime.Created:
			err = r.RemoveContainer(ctx, c.ID)
		case runtime.Running, runtime.Paused:
			err = r.StopContainer(ctx, c.ID, 0)
		default:
			continue
		}
		if err != nil {
			return err
		}
	}
	if old == nil {
		return nil
	}
	if err := r.net().Unplug(ctx, old.ID); err != nil {
		return err
	}
	return r.removeByID(ctx, old.ID)
}

// createSandbox returns the id of the created container: a new one, or the one an earlier try left.
func (r *Runtime) createSandbox(ctx context.Context, p *corev1.Pod) (string, error) {
	config, host, err := r.sandboxConfig(p)
	if err != nil {
		return "", err
	}
	id, _, err := r.create(ctx, containerName(p, sandboxName, 0), config, host)
	return id, err
}

func (r *Runtime) sandboxConfig(p *corev1.Pod) (*container.Config, *container.HostConfig, error) {
	labels, err := r.labels(p, sandboxName, 0)
	if err != nil {
		return nil, nil, err
	}
	config := &container.Config{Image: r.pause.name, Labels: labels}
	host := &container.HostConfig{
		NetworkMode: "none", IpcMode: container.IPCModeShareable, RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		ReadonlyRootfs: true, CapDrop: []string{"ALL"}, LogConfig: logConfig(),
		// The program is ours and makes five system calls; setting up a filter for it is a tenth of the time of a start.
		SecurityOpt: []string{"no-new-privileges", "seccomp=unconfined"},
		Resources:   container.Resources{CPUShares: sandboxShares},
	}
	if p.Spec.HostNetwork {
		host.NetworkMode = hostMode
	} else if config.Hostname, err = kernelName(p); err != nil {
		return nil, nil, err
	}
	if p.Spec.HostIPC {
		host.IpcMode = hostMode
	}
	if p.Spec.HostPID {
		host.PidMode = hostMode
	}
	if security := p.Spec.SecurityContext; security != nil && len(security.Sysctls) > 0 {
		host.Sysctls = map[string]string{}
		for _, s := range security.Sysctls {
			host.Sysctls[s.Name] = s.Value
		}
	}
	return config, host, nil
}

// hostname is what the Pod's containers are called, as in Kubernetes.
func hostname(p *corev1.Pod) string {
	if p.Spec.HostnameOverride != nil {
		return *p.Spec.HostnameOverride
	}
	name := p.Spec.Hostname
	if name == "" {
		name = p.Name
	}
	return strings.TrimRight(name[:min(len(name), maxHostname)], "-.")
}

// hostDomain is what follows the hostname of a Pod that is in a subdomain, "" for others.
func hostDomain(p *corev1.Pod) string {
	if p.Spec.Subdomain == "" || p.Spec.HostnameOverride != nil {
		return ""
	}
	return p.Spec.Subdomain + "." + p.Namespace + ".svc." + object.ClusterDomain
}

// kernelName is what the kernel calls the Pod: its hostname, or the whole name that it has in DNS if it asks for that.
func kernelName(p *corev1.Pod) (string, error) {
	name, domain := hostname(p), hostDomain(p)
	if domain == "" || !isTrue(p.Spec.SetHostnameAsFQDN) {
		return name, nil
	}
	if name += "." + domain; len(name) > maxFQDN {
		return "", fmt.Errorf("setHostnameAsFQDN: %s has %d characters and the kernel takes %d: shorten hostname or subdomain", name, len(name), maxFQDN)
	}
	return name, nil
}

// create makes a container, or adopts the one that has the name and is the same by its labels: an earlier try whose answer was
// lost. One that only has the name is somebody else's, and stays. adopted is nil for a new container.
func (r *Runtime) create(ctx context.Context, name string, config *container.Config, host *container.HostConfig) (id string, adopted *container.InspectResponse, err error) {
	limited, cancel := within(ctx, changeTimeout, "create container "+name)
	defer cancel()
	created, err := r.cli.ContainerCreate(limited, config, host, nil, nil, name)
	if cerrdefs.IsConflict(err) {
		adopted, err = r.adopt(ctx, name, config, host)
		if adopted != nil || err != nil {
			return idOf(adopted), adopted, err
		}
		created, err = r.cli.ContainerCreate(limited, config, host, nil, nil, name)
	}
	if err != nil {
		return "", nil, fmt.Errorf("create container %s: %w", name, because(limited, err))
	}
	return created.ID, nil, nil
}

func idOf(c *container.InspectResponse) string {
	if c == nil {
		return ""
	}
	return c.ID
}

// adopt returns the container of that name if it is the one that would be made; nil if it was made for a sandbox that is gone
// and is now out of the way.
func (r *Runtime) adopt(ctx context.Context, name string, config *container.Config, host *container.HostConfig) (*container.InspectResponse, error) {
	present, err := r.inspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, label := range []string{labelCluster, labelUID, labelContainer, labelAttempt} {
		if present.Config.Labels[label] != config.Labels[label] {
			return nil, fmt.Errorf("container name %s is taken by container %s, which is not Mainstay's: rename or remove that one", name, present.ID)
		}
	}
	if present.HostConfig.NetworkMode == host.NetworkMode || present.State.Status != container.StateCreated {
		return &present, nil
	}
	return nil, r.removeByID(ctx, present.ID)
}

func (r *Runtime) startByID(ctx context.Context, id string) error {
	ctx, cancel := within(ctx, changeTimeout, "start container "+id)
	defer cancel()
	return because(ctx, r.cli.ContainerStart(ctx, id, container.StartOptions{}))
}

// writePodFiles writes what is mounted into the Pod's containers besides its volumes.
func (r *Runtime) writePodFiles(p *corev1.Pod, ip netip.Addr) error {
	if p.Spec.HostNetwork && len(p.Spec.HostAliases) == 0 {
		return nil
	}
	return r.writeHosts(p, ip)
}
