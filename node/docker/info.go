package docker

import (
	"context"
	"fmt"
	"slices"
	"syscall"

	"github.com/docker/docker/api/types/image"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Info implements runtime.Runtime.
func (r *Runtime) Info(ctx context.Context) (runtime.Info, error) {
	ctx, cancel := within(ctx, readTimeout, "docker info")
	defer cancel()
	engine, err := r.cli.Info(ctx)
	if err != nil {
		return runtime.Info{}, fmt.Errorf("docker info: %w", because(ctx, err))
	}
	images, err := r.images(ctx)
	if err != nil {
		return runtime.Info{}, err
	}
	info := runtime.Info{
		Engine: "docker://" + engine.ServerVersion, OperatingSystem: engine.OperatingSystem, Architecture: goArch(engine.Architecture),
		KernelVersion: engine.KernelVersion, LiveRestore: engine.LiveRestoreEnabled, Images: images,
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewQuantity(int64(engine.NCPU), resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(engine.MemTotal, resource.BinarySI),
		},
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(engine.DockerRootDir, &disk); err != nil {
		return runtime.Info{}, fmt.Errorf("size of the engine's disk at %s: %w", engine.DockerRootDir, err)
	}
	info.Capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(disk.Blocks)*disk.Bsize, resource.BinarySI)
	info.Room = room(&disk)
	return info, nil
}

func (r *Runtime) images(ctx context.Context) ([]corev1.ContainerImage, error) {
	list, err := r.cli.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", because(ctx, err))
	}
	var images []corev1.ContainerImage
	for _, i := range list {
		names := slices.DeleteFunc(slices.Concat(i.RepoDigests, i.RepoTags), func(name string) bool {
			return name == "<none>:<none>" || name == "<none>@<none>" || name == r.pause.name
		})
		if len(names) > 0 {
			images = append(images, corev1.ContainerImage{Names: names, SizeBytes: i.Size})
		}
	}
	return images, nil
}

// goArch translates uname's words.
func goArch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	default:
		return machine
	}
}
