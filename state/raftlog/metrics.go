package raftlog

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this server's, registered with whoever asked for them.
type metrics struct {
	registry   prometheus.Registerer
	collectors []prometheus.Collector
	latency    prometheus.Histogram
	bytes      prometheus.Counter
}

func newMetrics(registry prometheus.Registerer, l *Log) *metrics {
	m := &metrics{
		registry: registry,
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mainstay_raft_append_seconds",
			Help:    "Time until an entry was durable on a quorum and applied here.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "mainstay_raft_append_bytes_total", Help: "Bytes of entries appended by this server as leader."}),
	}
	m.collectors = []prometheus.Collector{
		m.latency, m.bytes,
		gauge("mainstay_raft_leader", "1 if this server leads.", func() float64 {
			if l.raft.State() == raft.Leader {
				return 1
			}
			return 0
		}),
		gauge("mainstay_raft_term", "The current term.", func() float64 { return float64(l.raft.CurrentTerm()) }),
		gauge("mainstay_raft_commit_index", "Newest entry known to be on a quorum.", func() float64 { return float64(l.raft.CommitIndex()) }),
		gauge("mainstay_raft_applied_index", "Newest entry applied here.", func() float64 { return float64(l.raft.AppliedIndex()) }),
		gauge("mainstay_raft_last_index", "Newest entry in this server's log.", func() float64 { return float64(l.raft.LastIndex()) }),
		gauge("mainstay_raft_leader_contact_seconds", "How long ago this server heard of the leader; 0 while it leads.", func() float64 {
			return l.Contact().Seconds()
		}),
		gauge("mainstay_raft_disk_full", "1 while this server waits for space on its disk.", func() float64 {
			if l.disk.full.Load() {
				return 1
			}
			return 0
		}),
	}
	if registry != nil {
		registry.MustRegister(m.collectors...)
	}
	return m
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}

func (m *metrics) appended(bytes int, took time.Duration) {
	m.latency.Observe(took.Seconds())
	m.bytes.Add(float64(bytes))
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.collectors {
		m.registry.Unregister(c)
	}
}
