package docker

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// maxOutput is how much of a command's output is kept: enough for what a probe has to say.
const maxOutput = 10 << 10

// Exec implements runtime.Runtime. A command that still runs when ctx ends is killed.
func (r *Runtime) Exec(ctx context.Context, id string, command []string) (int, []byte, error) {
	code, output, err := r.exec(ctx, id, command)
	if cerrdefs.IsNotFound(err) {
		err = fmt.Errorf("%w: %s", runtime.ErrNotFound, id)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("exec in container %s: %w", id, because(ctx, err))
	}
	return code, output, nil
}

func (r *Runtime) exec(ctx context.Context, id string, command []string) (int, []byte, error) {
	created, err := r.cli.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, nil, err
	}
	conn, err := r.cli.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	// A hijacked connection knows nothing of ctx.
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	output := &limited{rest: maxOutput}
	if _, err := stdcopy.StdCopy(output, output, conn.Reader); err != nil || ctx.Err() != nil {
		r.killExec(context.WithoutCancel(ctx), id, created.ID)
		return 0, nil, cmp.Or(context.Cause(ctx), err) // output that ends just as ctx does is no success
	}
	ended, err := r.inspectExec(ctx, created.ID)
	if err != nil {
		return 0, nil, err
	}
	if ended.Running { // it closed its output and goes on
		r.killExec(context.WithoutCancel(ctx), id, created.ID)
	}
	return ended.ExitCode, output.Bytes(), nil
}

func (r *Runtime) inspectExec(ctx context.Context, execID string) (container.ExecInspect, error) {
	ctx, cancel := within(ctx, readTimeout, "inspect exec")
	defer cancel()
	inspected, err := r.cli.ContainerExecInspect(ctx, execID)
	return inspected, because(ctx, err)
}

// killExec ends a command nobody waits for any more: the engine has no call for that, and would keep it for ever.
func (r *Runtime) killExec(ctx context.Context, id, execID string) {
	e, err := r.inspectExec(ctx, execID)
	if err != nil || !e.Running || e.Pid <= 0 {
		return
	}
	if inContainer(e.Pid, id) {
		syscall.Kill(e.Pid, syscall.SIGKILL)
	}
}

// limited keeps the first bytes written to it and swallows the others.
type limited struct {
	bytes.Buffer
	rest int
}

func (l *limited) Write(p []byte) (int, error) {
	kept := p[:min(len(p), l.rest)]
	l.rest -= len(kept)
	l.Buffer.Write(kept)
	return len(p), nil
}

var _ io.Writer = (*limited)(nil)
