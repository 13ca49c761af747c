package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
)

// maxFollowed is how many logs are followed at a time; each is a connection from the server to a node.
const maxFollowed = 50

// source is a container whose log is wanted.
type source struct {
	pod       *corev1.Pod
	container string
}

// pods are those whose logs are wanted: the one that is named, or all that are selected.
func (o *logsOptions) pods(ctx context.Context, c *client, args []string) ([]*corev1.Pod, error) {
	if o.selector == "" {
		pod, err := findPod(ctx, c, args[0])
		return []*corev1.Pod{pod}, err
	}
	pods, _, err := list[*corev1.Pod](ctx, c, c.namespace, url.Values{"labelSelector": {o.selector}})
	if err == nil && len(pods) == 0 {
		err = no("no Pod in namespace %s matches %s", c.namespace, o.selector)
	}
	return pods, err
}

// sources are the containers of pods whose logs are wanted.
func (o *logsOptions) sources(hints io.Writer, pods []*corev1.Pod) ([]source, error) {
	if len(pods) > 1 {
		hints = io.Discard // for one Pod it is worth a line that there are more containers
	}
	var sources []source
	for _, pod := range pods {
		names := containerNames(pod)
		if !o.every {
			name, err := o.choose(hints, pod)
			if err != nil {
				return nil, err
			}
			names = []string{name}
		}
		for _, name := range names {
			sources = append(sources, source{pod, name})
		}
	}
	if o.follow && len(sources) > maxFollowed {
		return nil, fmt.Errorf("%d containers match; at most %d logs can be followed: narrow --selector", len(sources), maxFollowed)
	}
	return sources, nil
}

// streamAll copies several logs to w, each line with its source: in their order or, if they are followed, as lines come.
func (o *logsOptions) streamAll(ctx context.Context, c *client, sources []source, w io.Writer) error {
	g, ctx := errgroup.WithContext(ctx)
	if !o.follow {
		g.SetLimit(1) // one begins when the one before has ended
	}
	shared := &sync.Mutex{}
	for _, from := range sources {
		g.Go(func() error {
			lines := &lineWriter{shared: shared, w: w, prefix: from.pod.Name + "/" + from.container + ": "}
			if err := o.stream(ctx, c, from, lines); err != nil {
				return err
			}
			return lines.end()
		})
	}
	return g.Wait()
}

// lineWriter writes whole lines to w, each with a prefix, so that several of them can share w.
type lineWriter struct {
	prefix string
	rest   []byte // of a line that has not ended

	shared *sync.Mutex
	w      io.Writer // guarded by shared
}

// maxLine is how much of a line is kept waiting for its end.
const maxLine = 1 << 20

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	end := bytes.LastIndexByte(l.rest, '\n') + 1
	if end == 0 && len(l.rest) > maxLine {
		return len(p), l.end()
	}
	var out []byte
	for line := range bytes.Lines(l.rest[:end]) {
		out = append(append(out, l.prefix...), line...)
	}
	l.rest = append(l.rest[:0], l.rest[end:]...)
	l.shared.Lock()
	defer l.shared.Unlock()
	_, err := l.w.Write(out)
	return len(p), err
}

// end writes what is left as a line of its own.
func (l *lineWriter) end() error {
	if len(l.rest) == 0 {
		return nil
	}
	_, err := l.Write([]byte{'\n'})
	return err
}
