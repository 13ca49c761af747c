package docker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
)

// removeParallel is how many containers of one Pod are removed at once: removing is mostly waiting for the kernel.
const removeParallel = 4

// StopContainer implements runtime.Runtime.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := int(math.Ceil(max(0, grace.Seconds())))
	ctx, cancel := within(ctx, grace+changeTimeout, "stop container "+id)
	defer cancel()
	err := r.cli.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds})
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsNotModified(err) {
		r.known.forget(id)
		return nil
	}
	return fmt.Errorf("stop container %s: %w", id, because(ctx, err))
}

// UnpauseContainer implements runtime.Runtime.
func (r *Runtime) UnpauseContainer(ctx context.Context, id string) error {
	c, err := r.inspect(ctx, id)
	if err != nil || !c.State.Paused {
		return ignoreGone(err)
	}
	ctx, cancel := within(ctx, changeTimeout, "unpause container "+id)
	defer cancel()
	if err := r.cli.ContainerUnpause(ctx, id); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("unpause container %s: %w", id, because(ctx, err))
	}
	return nil
}

func ignoreGone(err error) error {
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// RemoveContainer implements runtime.Runtime.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	return r.remove(ctx, id, container.RemoveOptions{RemoveVolumes: true})
}

// removeByID kills and removes a container.
func (r *Runtime) removeByID(ctx context.Context, id string) error {
	return r.remove(ctx, id, container.RemoveOptions{RemoveVolumes: true, Force: true})
}

func (r *Runtime) remove(ctx context.Context, id string, options container.RemoveOptions) error {
	ctx, cancel := within(ctx, changeTimeout, "remove container "+id)
	defer cancel()
	if err := r.cli.ContainerRemove(ctx, id, options); err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", id, because(ctx, err))
	}
	return nil
}

// RemovePod implements runtime.Runtime: first what runs in the sandbox, then its link, then the sandbox, and the files at last.
func (r *Runtime) RemovePod(ctx context.Context, uid types.UID) error {
	defer r.pods.lock(string(uid))()
	if err := r.removePod(ctx, uid); err != nil {
		return fmt.Errorf("remove pod %s: %w", uid, err)
	}
	return nil
}

func (r *Runtime) removePod(ctx context.Context, uid types.UID) error {
	dir, err := r.podDir(string(uid))
	if err != nil {
		return err
	}
	list, err := r.list(ctx, labelUID+"="+string(uid))
	if err != nil {
		return err
	}
	var sandboxes []string
	apps, appsCtx := errgroup.WithContext(ctx)
	apps.SetLimit(removeParallel)
	for _, c := range list {
		switch id, ours := r.identify(c.Labels); {
		case !ours:
		case id.container == sandboxName:
			sandboxes = append(sandboxes, c.ID)
		default:
			apps.Go(func() error { return r.removeByID(appsCtx, c.ID) })
		}
	}
	if err := apps.Wait(); err != nil {
		return err
	}
	for _, id := range sandboxes {
		if err := errors.Join(r.net().Unplug(ctx, id), r.removeByID(ctx, id)); err != nil {
			return err
		}
	}
	r.known.setSandbox(uid, "")
	return removeFiles(dir)
}
