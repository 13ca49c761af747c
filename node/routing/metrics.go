package routing

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics say how the routers do; nothing is labelled by object.
type metrics struct {
	seconds *prometheus.HistogramVec // by router
	errors  *prometheus.CounterVec   // by router
}

// newMetrics registers on reg, which may be nil.
func newMetrics(reg *prometheus.Registry) metrics {
	m := metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mainstay_node_route_seconds", Help: "Time to bring one part of the node's network in line with a change.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}, []string{"part"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_node_route_errors_total", Help: "Changes that a part of the node's network could not be brought in line with.",
		}, []string{"part"}),
	}
	if reg != nil {
		reg.MustRegister(m.seconds, m.errors)
	}
	return m
}

func (m metrics) applied(router string, took time.Duration, err error) {
	m.seconds.WithLabelValues(router).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(router).Inc()
	}
}
