package sched

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the scheduler's, for one process.
type Metrics struct {
	passes  prometheus.Histogram
	bound   prometheus.Counter
	waiting prometheus.Gauge
}

// NewMetrics registers the scheduler's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_sched_pass_seconds", Help: "Time to place a batch of Pods and to write where.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		bound:   prometheus.NewCounter(prometheus.CounterOpts{Name: "mainstay_sched_bound_total", Help: "Pods bound to a node."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "mainstay_sched_unschedulable", Help: "Pods that fit on no node."}),
	}
	registry.MustRegister(m.passes, m.bound, m.waiting)
	return m
}
