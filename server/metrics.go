package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/mainstay-cluster/mainstay/controllers/engine"
	"github.com/mainstay-cluster/mainstay/controllers/nodelife"
	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/sched"
	"github.com/mainstay-cluster/mainstay/state"
)

// metrics are made once per process: duties come and go with terms.
type metrics struct {
	git    *gitsync.Metrics
	sched  *sched.Metrics
	engine *engine.Metrics
	nodes  *nodelife.Metrics
}

func newMetrics(registry *prometheus.Registry, store *state.Store) metrics {
	registry.MustRegister(storeMetrics{store}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return metrics{
		git: gitsync.NewMetrics(registry), sched: sched.NewMetrics(registry), engine: engine.NewMetrics(registry), nodes: nodelife.NewMetrics(registry),
	}
}

// storeMetrics reads the store's newest snapshot whenever somebody asks.
type storeMetrics struct{ store *state.Store }

var (
	storeVersion = prometheus.NewDesc("mainstay_store_version", "Changes of the store so far: the newest resourceVersion.", nil, nil)
	storeObjects = prometheus.NewDesc("mainstay_store_objects", "Objects in the store, by kind.", []string{"kind"}, nil)
	storePaused  = prometheus.NewDesc("mainstay_evictions_paused", "1 while so many nodes are not Ready that no Pod is moved off them.", nil, nil)
	storeQueue   = prometheus.NewDesc("mainstay_store_queue_length", "Transactions that wait for the next log entry.", nil, nil)
)

// Describe implements prometheus.Collector.
func (storeMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- storeVersion
	out <- storeObjects
	out <- storeQueue
	out <- storePaused
}

// Collect implements prometheus.Collector.
func (m storeMetrics) Collect(out chan<- prometheus.Metric) {
	snap := m.store.View()
	out <- prometheus.MustNewConstMetric(storeVersion, prometheus.CounterValue, float64(snap.Version))
	out <- prometheus.MustNewConstMetric(storeQueue, prometheus.GaugeValue, float64(m.store.QueueLen()))
	paused := 0.0
	if cluster := plan.LiveCluster(snap); cluster != nil && apimeta.IsStatusConditionTrue(cluster.Status.Conditions, object.EvictionsPaused) {
		paused = 1
	}
	out <- prometheus.MustNewConstMetric(storePaused, prometheus.GaugeValue, paused)
	for _, kind := range object.Kinds() {
		out <- prometheus.MustNewConstMetric(storeObjects, prometheus.GaugeValue, float64(state.LenKind(snap, kind)), kind.Kind)
	}
}
