package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/sched"
	"github.com/mainstay-cluster/mainstay/state"
)

// metrics are made once per process: duties come and go with terms.
type metrics struct {
	git    *gitsync.Metrics
	sched  *sched.Metrics
	engine *engine.Metrics
}

func newMetrics(registry *prometheus.Registry, store *state.Store) metrics {
	registry.MustRegister(storeMetrics{store}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return metrics{git: gitsync.NewMetrics(registry), sched: sched.NewMetrics(registry), engine: engine.NewMetrics(registry)}
}

// storeMetrics reads the store's newest snapshot whenever somebody asks.
type storeMetrics struct{ store *state.Store }

var (
	storeVersion = prometheus.NewDesc("mainstay_store_version", "Changes of the store so far: the newest resourceVersion.", nil, nil)
	storeObjects = prometheus.NewDesc("mainstay_store_objects", "Objects in the store, by kind.", []string{"kind"}, nil)
	storeQueue   = prometheus.NewDesc("mainstay_store_queue_length", "Transactions that wait for the next log entry.", nil, nil)
)

// Describe implements prometheus.Collector.
func (storeMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- storeVersion
	out <- storeObjects
	out <- storeQueue
}

// Collect implements prometheus.Collector.
func (m storeMetrics) Collect(out chan<- prometheus.Metric) {
	snap := m.store.View()
	out <- prometheus.MustNewConstMetric(storeVersion, prometheus.CounterValue, float64(snap.Version))
	out <- prometheus.MustNewConstMetric(storeQueue, prometheus.GaugeValue, float64(m.store.QueueLen()))
	for _, kind := range object.Kinds() {
		out <- prometheus.MustNewConstMetric(storeObjects, prometheus.GaugeValue, float64(state.LenKind(snap, kind)), kind.Kind)
	}
}
