package nodelife

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

// Metrics count what Tell tells.
type Metrics struct{ evictions prometheus.Counter }

// NewMetrics registers on reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{evictions: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mainstay_evictions_total", Help: "Pods taken off nodes for their taints, by this server.",
	})}
	reg.MustRegister(m.evictions)
	return m
}

const tellBatch = 64

// Tell logs and counts what the controllers decide, from their Events, until ctx ends: what decides has neither a log nor a
// counter. It begins with what happens after the call.
func Tell(ctx context.Context, s *state.Store, log *slog.Logger, m *Metrics) error {
	for {
		err := tell(ctx, state.Changes[*corev1.Event](s, s.View().Version), log, m)
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

func tell(ctx context.Context, feed *state.Feed[*corev1.Event], log *slog.Logger, m *Metrics) error {
	buf := make([]state.Change[*corev1.Event], tellBatch)
	for {
		n, err := feed.Next(ctx, buf)
		if err != nil {
			return err
		}
		for _, c := range buf[:n] {
			if c.New != nil && c.New.Source.Component == component && (c.Old == nil || c.Old.Count < c.New.Count) {
				m.tellOf(c.New, log)
			}
		}
		clear(buf[:n])
	}
}

// tellOf logs what concerns a node or the cluster. Evictions of single Pods may be thousands.
func (m *Metrics) tellOf(e *corev1.Event, log *slog.Logger) {
	switch e.Reason {
	case reasonEvicted:
		m.evictions.Inc()
	case reasonSilent:
		log.Warn("node is not Ready", "node", e.InvolvedObject.Name, "why", e.Message)
	case reasonPaused:
		log.Warn("evictions are paused", "why", e.Message)
	case reasonResumed:
		log.Info("evictions go on", "why", e.Message)
	}
}
