package nodelife

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// counted is how many evictions a registry tells of.
func counted(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d families of metrics, %v", len(families), err)
	}
	return families[0].Metric[0].Counter.GetValue()
}

// An operator reads in the log that a node is gone and that evictions are paused, and counts evictions.
func TestTheLogTellsOfNodesAndTheBrake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, nodes := named(4)
		store := statetest.New(t, append(nodes, home(), readyPod("p0", names[0]), readyPod("p1", names[1]), readyPod("p2", names[2]))...)
		m := begin(t, store, names...)
		defer m.end()
		var written bytes.Buffer
		registry := prometheus.NewRegistry()
		metrics := NewMetrics(registry)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			_ = Tell(ctx, store, slog.New(slog.NewTextHandler(&written, nil)), metrics) // it ends as ctx does
			close(ended)
		}()
		for _, gone := range names[:3] {
			m.alive[gone] = false
		}
		m.pass(time.Hour)
		if n := counted(t, registry); n != 0 {
			t.Errorf("%v evictions while they are paused", n)
		}
		m.register(names[0])
		m.register(names[1])
		m.pass(time.Hour)
		stop()
		<-ended
		if n := counted(t, registry); n != 1 {
			t.Errorf("%v evictions counted, want that of p2", n)
		}
		for text, want := range map[string]int{`msg="node is not Ready"`: 3, `msg="evictions are paused"`: 1, `msg="evictions go on"`: 1} {
			if got := strings.Count(written.String(), text); got != want {
				t.Errorf("%s: %d times, want %d, in\n%s", text, got, want, &written)
			}
		}
	})
}
