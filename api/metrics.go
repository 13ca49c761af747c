package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/object"
)

// metrics are by verb, resource and code; never by object.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	open     *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mainstay_api_requests_total", Help: "Requests answered, by verb, resource and status code.",
		}, []string{"verb", "resource", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mainstay_api_request_seconds", Help: "Time to answer requests; those that stay open are not counted.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}, []string{"verb", "resource"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mainstay_api_requests_open", Help: "Requests being answered, watches and long polls among them.",
		}, []string{"verb"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.open)
	}
	return m
}

// lasting are resources whose answers last as long as nothing happens.
var lasting = []string{"node/pods", "node/network", "log"}

// start counts a request in; the function it returns counts it out.
func (m *metrics) start(r *http.Request) func(code int) {
	verb, resource := labelsOf(r)
	m.open.WithLabelValues(verb).Inc()
	began := time.Now()
	return func(code int) {
		m.open.WithLabelValues(verb).Dec()
		m.requests.WithLabelValues(verb, resource, strconv.Itoa(code)).Inc()
		if verb != "watch" && !slices.Contains(lasting, resource) {
			m.seconds.WithLabelValues(verb, resource).Observe(time.Since(began).Seconds())
		}
	}
}

// labelsOf names verb and resource out of a fixed set, whatever a client sends.
func labelsOf(r *http.Request) (verb, resource string) {
	if endpoint, ok := strings.CutPrefix(r.URL.Path, mainstayPrefix); ok {
		if slices.Contains(endpoints, endpoint) {
			return "call", endpoint
		}
		return "call", "other"
	}
	at, ok := parsePath(r.URL.Path)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		verb = "write"
	case !ok || at.key.Name != "":
		verb = "get"
	case isTrue(r.URL.Query().Get("watch")):
		verb = "watch"
	default:
		verb = "list"
	}
	if !ok {
		return verb, "other"
	}
	kind, known := at.kind(object.Kinds())
	switch {
	case !known:
		return verb, "other"
	case at.sub == "log":
		return verb, at.sub
	}
	return verb, kind.Resource
}
