package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// BenchmarkAssignToStart measures the agent's own part of a rollout: from the server's having a Pod until the engine is
// told to start its container, on an engine that takes no time and beside 50 Pods that run already.
func BenchmarkAssignToStart(b *testing.B) {
	s, engine := newServer(), runtimetest.NewFake(image1)
	started := make(chan string, 1)
	engine.Intercept(func(_ context.Context, c runtimetest.Call) error {
		if c.Method == "StartContainer" {
			started <- string(c.UID)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Name: "n1", Cluster: "c1", Client: link.NewVia(s, "http://server"), Runtime: engine, Log: quiet()})
	}()
	pod := func(i int) *corev1.Pod { return aPod(fmt.Sprintf("p%d", i)) }
	for i := range 50 {
		s.bind(pod(i))
		<-started
	}
	<-time.After(2 * time.Second) // what they report is no part of the measurement
	n := 50
	for b.Loop() {
		s.bind(pod(n))
		<-started
		s.drop(pod(n).UID)
		n++
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
