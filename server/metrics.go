package server

import (
	"context"
	"errors"

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
	git      *gitsync.Metrics
	sched    *sched.Metrics
	engine   *engine.Metrics
	converge prometheus.Histogram
}

func newMetrics(registry *prometheus.Registry, store *state.Store) metrics {
	m := metrics{
		git: gitsync.NewMetrics(registry), sched: sched.NewMetrics(registry), engine: engine.NewMetrics(registry),
		converge: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_revision_converge_seconds", Help: "From a revision's activation until it converged, to the second.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
	}
	registry.MustRegister(
		m.converge, storeMetrics{store},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// watchRevisions observes how long revisions take to converge, until ctx ends.
func (m *metrics) watchRevisions(ctx context.Context, store *state.Store) error {
	feed := state.Changes[*object.Revision](store, store.View().Version)
	buf := make([]state.Change[*object.Revision], 16)
	for {
		n, err := feed.Next(ctx, buf)
		if errors.Is(err, state.ErrCompacted) {
			feed = state.Changes[*object.Revision](store, store.View().Version)
			continue
		}
		if err != nil {
			return err
		}
		for _, c := range buf[:n] {
			m.observe(c)
		}
	}
}

func (m *metrics) observe(c state.Change[*object.Revision]) {
	if c.New == nil || c.New.Status.Phase != object.RevisionConverged || c.New.Status.ActivatedAt == nil || c.New.Status.EndedAt == nil {
		return
	}
	if c.Old != nil && c.Old.Status.Phase == object.RevisionConverged {
		return
	}
	m.converge.Observe(c.New.Status.EndedAt.Sub(c.New.Status.ActivatedAt.Time).Seconds())
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
