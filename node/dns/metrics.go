package dns

import (
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts answers; nothing is labelled by name or client.
type metrics struct {
	answers *prometheus.CounterVec   // by source and outcome
	seconds *prometheus.HistogramVec // by source
}

// newMetrics registers on reg, which may be nil.
func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_dns_answers_total",
			Help: "Questions answered, by where the answer came from (cluster, cache, upstream, none) and outcome (ok, absent, failed, refused).",
		}, []string{"source", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mainstay_dns_answer_seconds", Help: "From a question's arrival to its answer, by where that came from.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 4, 10),
		}, []string{"source"}),
	}
	if reg != nil {
		reg.MustRegister(m.answers, m.seconds)
	}
	return m
}

func (m *metrics) observe(from source, rcode int, took time.Duration) {
	m.answers.WithLabelValues(string(from), outcome(rcode)).Inc()
	m.seconds.WithLabelValues(string(from)).Observe(took.Seconds())
}

func outcome(rcode int) string {
	switch rcode {
	case dns.RcodeSuccess:
		return "ok"
	case dns.RcodeNameError:
		return "absent"
	case dns.RcodeServerFailure:
		return "failed"
	default:
		return "refused"
	}
}
