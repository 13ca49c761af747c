package docker

import (
	"context"
	"fmt"
	"math"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// Kubernetes' translation of cores into the kernel's shares and quotas.
	sharesPerCPU = 1024
	minShares    = 2
	maxShares    = 262144
	quotaPeriod  = 100_000 // µs
	minQuota     = 1_000   // µs
	milli        = 1000
	// pidsLimit keeps a fork bomb from taking the host down.
	pidsLimit = 4096
	// Logs of one container take 30 MB at most.
	logMaxSize  = "10m"
	logMaxFiles = "3"
)

// StartContainer implements runtime.Runtime: two calls to the engine if all goes well.
func (r *Runtime) StartContainer(ctx context.Context, s runtime.Sandbox, cfg runtime.ContainerConfig) error {
	if err := r.startContainer(ctx, s, cfg); err != nil {
		return fmt.Errorf("start container %s of pod %s: %w", cfg.Container.Name, podName(cfg.Pod), err)
	}
	return nil
}

func (r *Runtime) startContainer(ctx context.Context, s runtime.Sandbox, cfg runtime.ContainerConfig) error {
	user, err := r.user(ctx, cfg)
	if err != nil {
		return err
	}
	mounts, err := r.prepareMounts(cfg)
	if err != nil {
		return err
	}
	config, host, err := r.containerConfig(s, cfg, mounts)
	if err != nil {
		return err
	}
	config.User = user
	name := containerName(cfg.Pod, cfg.Container.Name, cfg.Attempt)
	id, adopted, err := r.create(ctx, name, config, host)
	if err != nil {
		return err
	}
	if adopted != nil && describe(*adopted).State != runtime.Created {
		return nil // it has run, or cannot
	}
	defer r.known.start(id)()
	if err := r.startByID(ctx, id); err != nil {
		return startError(cfg, err)
	}
	return nil
}

// containerConfig translates a container's spec into Docker's words.
func (r *Runtime) containerConfig(s runtime.Sandbox, cfg runtime.ContainerConfig, mounts []mount.Mount) (*container.Config, *container.HostConfig, error) {
	c := cfg.Container
	labels, err := r.labels(cfg.Pod, c.Name, cfg.Attempt)
	if err != nil {
		return nil, nil, err
	}
	labels[labelSpecHash] = runtime.ContainerHash(c)
	image := cfg.ImageID
	if image == "" {
		image = c.Image
	}
	config := &container.Config{
		Image: image, Labels: labels, Entrypoint: cfg.Command, Cmd: cfg.Args, Env: cfg.Env, WorkingDir: c.WorkingDir,
		Tty: c.TTY, OpenStdin: c.Stdin, StdinOnce: c.StdinOnce, Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		config.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	shared := "container:" + s.ID
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(shared), IpcMode: container.IpcMode(shared), LogConfig: logConfig(), Mounts: mounts,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Resources:     resources(c.Resources), OomScoreAdj: oomScore(cfg.Pod, c),
	}
	switch {
	case cfg.Pod.Spec.HostPID:
		host.PidMode = hostMode
	case cfg.Pod.Spec.ShareProcessNamespace != nil && *cfg.Pod.Spec.ShareProcessNamespace:
		host.PidMode = container.PidMode(shared)
	}
	if cfg.Pod.Spec.HostIPC {
		host.IpcMode = hostMode
	}
	return config, host, secure(host, cfg)
}

func logConfig() container.LogConfig {
	return container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": logMaxSize, "max-file": logMaxFiles}}
}

// resources translates requests and limits; a limit stands in for a request that is missing.
func resources(r corev1.ResourceRequirements) container.Resources {
	pids := int64(pidsLimit)
	out := container.Resources{PidsLimit: &pids, CPUShares: minShares}
	if cpu, ok := r.Limits[corev1.ResourceCPU]; ok {
		out.CPUPeriod = quotaPeriod
		out.CPUQuota = max(minQuota, cpu.MilliValue()*quotaPeriod/milli)
		out.CPUShares = shares(cpu.MilliValue())
	}
	if cpu, ok := r.Requests[corev1.ResourceCPU]; ok {
		out.CPUShares = shares(cpu.MilliValue())
	}
	if memory, ok := r.Limits[corev1.ResourceMemory]; ok {
		out.Memory = memory.Value()
		out.MemorySwap = memory.Value() // no swap on top of it
	}
	return out
}

func shares(milliCPU int64) int64 { return min(maxShares, max(minShares, milliCPU*sharesPerCPU/milli)) }

// Bounds for who is killed first when the host is short of memory. Kubernetes puts Guaranteed Pods at -997; where the engine may
// not go below zero, as in many virtual machines' containers, such a container would not even start.
const (
	guaranteedOOM = 0
	bestEffortOOM = 1000
)

// oomScore ranks a container: Guaranteed Pods are killed last, BestEffort first, the others by how much they asked for.
func oomScore(p *corev1.Pod, c *corev1.Container) int {
	guaranteed, asked := true, false
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, limited := c.Resources.Limits[name]
				request, requested := c.Resources.Requests[name]
				asked = asked || limited || requested
				guaranteed = guaranteed && limited && (!requested || request.Cmp(limit) == 0)
			}
		}
	}
	switch request := c.Resources.Requests[corev1.ResourceMemory]; {
	case !asked:
		return bestEffortOOM
	case guaranteed:
		return guaranteedOOM
	default:
		// One step per GiB asked for: the same order as Kubernetes', without knowing how much the host has.
		return max(2, bestEffortOOM-1-int(math.Min(float64(request.Value()>>20), bestEffortOOM-3)))
	}
}

// firstOf returns the first that is set: a container's own setting before its Pod's.
func firstOf[T any](values ...*T) *T {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}
