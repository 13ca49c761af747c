package docker

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Kubernetes' bounds of termination messages.
const (
	maxMessage          = 4096
	maxFallbackMessage  = 2048
	fallbackMessageTail = 80 // lines
)

// Logs implements runtime.Runtime.
func (r *Runtime) Logs(ctx context.Context, id string, opts runtime.LogOptions) (io.ReadCloser, error) {
	inspected, err := r.inspect(ctx, id)
	if err != nil {
		return nil, logsError(id, err)
	}
	options := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: opts.Follow, Timestamps: opts.Timestamps, Tail: "all"}
	if opts.Tail > 0 {
		options.Tail = strconv.Itoa(opts.Tail)
	}
	if !opts.Since.IsZero() {
		options.Since = timestamp(opts.Since)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.cli.ContainerLogs(ctx, id, options)
	if err != nil {
		cancel()
		return nil, logsError(id, err)
	}
	if inspected.Config.Tty {
		return &logStream{Reader: stream, cancel: cancel, source: stream}, nil
	}
	reader, writer := io.Pipe()
	s := &logStream{Reader: reader, cancel: cancel, source: stream, pipe: reader, copied: make(chan struct{})}
	go func() {
		defer close(s.copied)
		_, err := stdcopy.StdCopy(writer, writer, stream)
		writer.CloseWithError(err)
	}()
	return s, nil
}

func logsError(id string, err error) error {
	if cerrdefs.IsNotFound(err) {
		err = runtime.ErrNotFound
	}
	return fmt.Errorf("logs of container %s: %w", id, err)
}

// timestamp is how the engine takes times: seconds and nanoseconds.
func timestamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// logStream is output on its way. Close waits for the goroutine that takes the engine's two streams apart.
type logStream struct {
	io.Reader
	cancel context.CancelFunc
	source io.Closer
	pipe   *io.PipeReader // nil with a terminal, which has only one stream
	copied chan struct{}
}

func (s *logStream) Close() error {
	s.cancel()
	err := s.source.Close()
	if s.pipe != nil {
		s.pipe.Close()
		<-s.copied
	}
	return err
}

// terminationMessage is what an ended attempt left at its terminationMessagePath, or, if it wants that, said last.
func (r *Runtime) terminationMessage(ctx context.Context, containerID string, id identity, p *corev1.Pod, exitCode int) string {
	dir, err := r.podDir(string(id.uid))
	if err != nil {
		return ""
	}
	if message := readHead(terminationPath(dir, id.container, id.attempt), maxMessage); message != "" {
		return message
	}
	spec := containerOf(p, id.container)
	if spec == nil || exitCode == 0 || spec.TerminationMessagePolicy != corev1.TerminationMessageFallbackToLogsOnError {
		return ""
	}
	ctx, cancel := within(ctx, readTimeout, "logs of container "+containerID)
	defer cancel()
	stream, err := r.Logs(ctx, containerID, runtime.LogOptions{Tail: fallbackMessageTail})
	if err != nil {
		return ""
	}
	defer stream.Close()
	all, _ := io.ReadAll(stream)
	return string(all[max(0, len(all)-maxFallbackMessage):])
}

// readHead returns the first bytes of a regular file; "" if there is none. The container may have put anything in its place
// but another file: the file is a mount point for it.
func readHead(path string, limit int64) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return ""
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, limit))
	return string(head)
}
