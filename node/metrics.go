package node

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the agent does; nothing is labelled by object.
type metrics struct {
	actions *prometheus.CounterVec // by action and outcome
	starts  prometheus.Histogram
	looks   prometheus.Histogram
	pods    prometheus.Gauge
}

// newMetrics registers on reg, which may be nil.
func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_node_actions_total", Help: "Steps taken on the engine, by action and outcome (ok, error, cancelled).",
		}, []string{"action", "outcome"}),
		starts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_node_pod_start_seconds", Help: "From a Pod's arrival on the node until all its containers run.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 13),
		}),
		looks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_node_look_seconds", Help: "Duration of a full look at the engine.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		pods: prometheus.NewGauge(prometheus.GaugeOpts{Name: "mainstay_node_pods", Help: "Pods this agent takes care of."}),
	}
	if reg != nil {
		reg.MustRegister(m.actions, m.starts, m.looks, m.pods)
	}
	return m
}

// outcome names how a step ended.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled), errors.Is(err, errSuperseded):
		return "cancelled"
	default:
		return "error"
	}
}
