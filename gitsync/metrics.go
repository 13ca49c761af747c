package gitsync

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are gitsync's metrics. Make them once per process.
type Metrics struct {
	activation prometheus.Histogram
	load       prometheus.Histogram
	converge   prometheus.Histogram
	revisions  *prometheus.CounterVec
	errors     *prometheus.CounterVec
	decoded    prometheus.Counter

	mu     sync.Mutex
	behind time.Time // since when the branch is ahead of what is activated; zero if it is not
}

// NewMetrics registers gitsync's metrics. It panics if reg has them already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	buckets := prometheus.ExponentialBuckets(0.001, 2.5, 10) // 1 ms … 3.8 s
	m := &Metrics{
		activation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_revision_activation_seconds", Buckets: buckets,
			Help: "Time from seeing a new head to its being active or rejected.",
		}),
		load: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_revision_load_seconds", Buckets: buckets,
			Help: "Time to read, decode and check the manifests of a commit.",
		}),
		converge: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mainstay_revision_converge_seconds", Buckets: prometheus.ExponentialBuckets(0.05, 2, 14), // 50 ms … 7 min
			Help: "Time from a commit's becoming active until everything it asks for runs; commits that never get there do not count.",
		}),
		revisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_revisions_total",
			Help: "Commits taken in, by what became of them: active or rejected.",
		}, []string{"outcome"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_git_errors_total",
			Help: "Failures to take in the repository's head, by what was being done: look, fetch, load or activate.",
		}, []string{"step"}),
		decoded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mainstay_git_files_decoded_total",
			Help: "Manifests decoded; those whose content was known already do not count.",
		}),
	}
	lag := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mainstay_revision_lag_seconds",
		Help: "How long the branch has been at a commit that is neither active nor rejected; 0 if it is not.",
	}, m.lag)
	reg.MustRegister(m.activation, m.load, m.converge, m.revisions, m.errors, m.decoded, lag)
	return m
}

func (m *Metrics) lag() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.behind.IsZero() {
		return 0
	}
	return time.Since(m.behind).Seconds()
}

// ahead says that the branch is at a commit that is not dealt with, and returns since when it is like that.
func (m *Metrics) ahead(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.behind.IsZero() {
		m.behind = now
	}
	return m.behind
}

func (m *Metrics) level() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.behind = time.Time{}
}
