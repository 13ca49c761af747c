package engine

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of all controllers, labelled by the controller's name and nothing else. Make them once per process.
type Metrics struct {
	duration *prometheus.HistogramVec
	depth    *prometheus.GaugeVec
	errors   *prometheus.CounterVec
}

// NewMetrics registers the metrics of all controllers. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	label := []string{"controller"}
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mainstay_reconcile_duration_seconds",
			Help:    "Time to reconcile one key, its commit included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 0.1 ms … 6.5 s
		}, label),
		depth: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mainstay_reconcile_queue_depth",
			Help: "Keys that wait for a worker.",
		}, label),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_reconcile_errors_total",
			Help: "Reconciliations that failed and are tried again.",
		}, label),
	}
	reg.MustRegister(m.duration, m.depth, m.errors)
	return m
}

// controllerMetrics are those of one controller.
type controllerMetrics struct {
	duration prometheus.Observer
	depth    prometheus.Gauge
	errors   prometheus.Counter
}

func (m *Metrics) of(controller string) controllerMetrics {
	return controllerMetrics{
		duration: m.duration.WithLabelValues(controller),
		depth:    m.depth.WithLabelValues(controller),
		errors:   m.errors.WithLabelValues(controller),
	}
}
