package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// pullSilence is how long a pull may make no progress: large images take as long as they take.
const pullSilence = 2 * time.Minute

// EnsureImage implements runtime.Runtime.
func (r *Runtime) EnsureImage(ctx context.Context, ref string, policy corev1.PullPolicy) (string, error) {
	if policy != corev1.PullAlways {
		present, err := r.inspectImage(ctx, ref)
		if err == nil {
			return present.ID, nil
		}
		if !cerrdefs.IsNotFound(err) {
			return "", err
		}
		if policy == corev1.PullNever {
			return "", fmt.Errorf("image %s: %w", ref, runtime.ErrImageNeverPull)
		}
	}
	if err := r.pull(ctx, ref); err != nil {
		return "", &runtime.ImageError{Image: ref, Err: err}
	}
	pulled, err := r.inspectImage(ctx, ref)
	return pulled.ID, err
}

func (r *Runtime) inspectImage(ctx context.Context, ref string) (image.InspectResponse, error) {
	ctx, cancel := within(ctx, readTimeout, "inspect image "+ref)
	defer cancel()
	found, err := r.cli.ImageInspect(ctx, ref)
	if err != nil {
		return found, fmt.Errorf("inspect image %s: %w", ref, because(ctx, err))
	}
	return found, nil
}

// pull ends when the engine has the image, or has said nothing new for pullSilence.
func (r *Runtime) pull(ctx context.Context, ref string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(pullSilence, func() { cancel(fmt.Errorf("no progress for %s", pullSilence)) })
	defer watchdog.Stop()
	messages, err := r.cli.ImagePull(ctx, ref, image.PullOptions{})
	if err != nil {
		return because(ctx, err)
	}
	err = streamError(messages, func() { watchdog.Reset(pullSilence) })
	return because(ctx, errors.Join(err, messages.Close()))
}
