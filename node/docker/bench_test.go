package docker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"
)

const (
	benchPods     = 50
	benchParallel = 8
)

// BenchmarkStartPods starts 50 Pods, and before that the bare pairs of containers that they are made of, on the same engine, 8 at
// a time. ratio is the quotient of the two times: what Mainstay adds.
func BenchmarkStartPods(b *testing.B) {
	f := newFixture(b)
	check(b, f.loadPause(b.Context()))
	var bare, pods time.Duration
	for round := 0; b.Loop(); round++ {
		bare += inParallel(b, func(ctx context.Context, i int) error { return f.startPair(ctx, fmt.Sprintf("bare-%d-%d", round, i)) })
		b.StopTimer()
		f.removeAll(b)
		b.StartTimer()
		pods += inParallel(b, func(_ context.Context, i int) error {
			return f.start(b, pod(fmt.Sprintf("pod-%d-%d", round, i), "sleep", "600"), 0)
		})
		b.StopTimer()
		f.removeAll(b)
		b.StartTimer()
	}
	b.ReportMetric(bare.Seconds()/float64(b.N), "s/50pairs")
	b.ReportMetric(pods.Seconds()/float64(b.N), "s/50Pods")
	b.ReportMetric(pods.Seconds()/bare.Seconds(), "ratio")
}

func inParallel(b *testing.B, do func(ctx context.Context, i int) error) time.Duration {
	b.Helper()
	start := time.Now()
	all, ctx := errgroup.WithContext(b.Context())
	all.SetLimit(benchParallel)
	for i := range benchPods {
		all.Go(func() error { return do(ctx, i) })
	}
	check(b, all.Wait())
	return time.Since(start)
}

// startPair starts a sandbox and a container in it as barely as the engine allows.
func (f *fixture) startPair(ctx context.Context, name string) error {
	sandbox, err := f.startBare(ctx, name+"-sandbox", &container.Config{Image: f.pause.name},
		&container.HostConfig{NetworkMode: "none", IpcMode: container.IPCModeShareable})
	if err != nil {
		return err
	}
	shared := "container:" + sandbox
	_, err = f.startBare(ctx, name+"-app", &container.Config{Image: busybox, Cmd: []string{"sleep", "600"}},
		&container.HostConfig{NetworkMode: container.NetworkMode(shared), IpcMode: container.IpcMode(shared)})
	return err
}

func (f *fixture) startBare(ctx context.Context, name string, config *container.Config, host *container.HostConfig) (string, error) {
	created, err := f.cli.ContainerCreate(ctx, config, host, nil, nil, name)
	if err != nil {
		return "", err
	}
	return created.ID, f.cli.ContainerStart(ctx, created.ID, container.StartOptions{})
}

func (f *fixture) removeAll(b *testing.B) {
	b.Helper()
	list, err := f.cli.ContainerList(b.Context(), container.ListOptions{All: true})
	check(b, err)
	var all errgroup.Group
	all.SetLimit(benchParallel)
	for _, c := range list {
		all.Go(func() error { return f.cli.ContainerRemove(b.Context(), c.ID, container.RemoveOptions{Force: true}) })
	}
	check(b, all.Wait())
}
