package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

func mustPrefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// sink notes what reaches a server and when.
type sink struct {
	mu      sync.Mutex
	start   time.Time
	reports []link.Report
	events  []link.Events
	times   []time.Duration
	fail    bool
}

func (s *sink) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Since(s.start))
	if s.fail {
		return nil, errors.New("connection refused")
	}
	var report link.Report
	var events link.Events
	into := any(&report)
	if r.URL.Path == link.PathEvents {
		into = &events
	}
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return nil, err
	}
	if r.URL.Path == link.PathEvents {
		s.events = append(s.events, events)
	} else {
		s.reports = append(s.reports, report)
	}
	return httptest.NewRecorder().Result(), nil
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// withSink runs a test of something that sends, in a bubble.
func withSink(t *testing.T, run func(*link.Client) (func(context.Context) error, func(s *sink))) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		s := &sink{start: time.Now()}
		loop, test := run(link.NewVia(s, "http://server"))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- loop(ctx) }()
		test(s)
		cancel()
		<-done
	})
}

func statusNamed(uid types.UID, message string) link.PodStatus {
	return link.PodStatus{PodRef: link.PodRef{UID: uid}, Status: corev1.PodStatus{Message: message}}
}

func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestReporterPaces(t *testing.T) {
	var r *reporter
	withSink(t, func(c *link.Client) (func(context.Context) error, func(*sink)) {
		r = newReporter("n1", c, quiet())
		return r.run, func(s *sink) {
			later(5 * time.Second)
			r.set(statusNamed("a", "1"), calm) // the first goes at once
			synctest.Wait()
			r.set(statusNamed("a", "2"), urgent) // 100ms after it
			later(150 * time.Millisecond)
			r.set(statusNamed("a", "3"), calm) // a second after that
			later(300 * time.Millisecond)
			r.set(statusNamed("b", "4"), calm) // with it
			later(2 * time.Second)
			want := []time.Duration{5000 * time.Millisecond, 5100 * time.Millisecond, 6100 * time.Millisecond}
			if diff := cmp.Diff(want, s.times); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
			if last := s.reports[len(s.reports)-1].Statuses; len(last) != 2 || last["a"].Status.Message != "3" {
				t.Errorf("last report = %+v, want a and b", last)
			}
		}
	})
}

func TestReporterRepeatsUnlessNewer(t *testing.T) {
	var r *reporter
	withSink(t, func(c *link.Client) (func(context.Context) error, func(*sink)) {
		r = newReporter("n1", c, quiet())
		var acknowledged []types.UID
		r.acknowledged = func(uid types.UID) { acknowledged = append(acknowledged, uid) }
		return r.run, func(s *sink) {
			s.fail = true
			r.set(statusNamed("a", "old"), urgent)
			r.set(statusNamed("b", "only"), urgent)
			r.set(statusNamed("c", "dead"), urgent)
			r.remove(link.PodRef{UID: "c"})
			r.setNode(&corev1.NodeStatus{Phase: "x"}, calm)
			later(time.Second)
			r.set(statusNamed("a", "new"), urgent)
			later(30 * time.Second)
			if len(acknowledged) > 0 {
				t.Error("acknowledged what was never delivered")
			}
			s.mu.Lock()
			s.fail = false
			s.mu.Unlock()
			later(15 * time.Second)
			if len(s.reports) != 1 {
				t.Fatalf("%d reports, want 1", len(s.reports))
			}
			got := s.reports[0]
			if got.Statuses["a"].Status.Message != "new" || got.Statuses["b"].Status.Message != "only" || len(got.Statuses) != 2 {
				t.Errorf("statuses = %+v", got.Statuses)
			}
			if got.NodeStatus == nil || len(got.Removed) != 1 || len(acknowledged) != 1 {
				t.Errorf("report = %+v, acknowledged = %v", got, acknowledged)
			}
			if n := len(s.times); n > 15 {
				t.Errorf("%d tries in 30s, want them to back off", n)
			}
		}
	})
}

func TestUrgency(t *testing.T) {
	running := podStatus(desired{Pod: aPod("p")}, seen(sandboxed, made(0), healthy(0)))
	for name, tc := range map[string]struct {
		change func(*corev1.PodStatus)
		want   urgency
	}{
		"nothing":   {func(*corev1.PodStatus) {}, calm},
		"message":   {func(s *corev1.PodStatus) { s.Message = "x" }, calm},
		"phase":     {func(s *corev1.PodStatus) { s.Phase = corev1.PodFailed }, urgent},
		"address":   {func(s *corev1.PodStatus) { s.PodIP = "10.0.0.1" }, urgent},
		"readiness": {func(s *corev1.PodStatus) { s.ContainerStatuses[0].Ready = false }, urgent},
		"end": {func(s *corev1.PodStatus) {
			s.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		}, urgent},
	} {
		t.Run(name, func(t *testing.T) {
			after := running.DeepCopy()
			tc.change(after)
			if got := urgencyOf(&running, after); got != tc.want {
				t.Errorf("urgency = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestEventsAreCountedAndLimited(t *testing.T) {
	var r *recorder
	withSink(t, func(c *link.Client) (func(context.Context) error, func(*sink)) {
		r = newRecorder("n1", c, quiet())
		return r.run, func(s *sink) {
			pod := aPod("web")
			r.warning(pod, "app", "BackOff", "again")
			later(eventsGap / 2) // not when the next are sent, or some of what follows would be of them and some not
			for range 5 {
				r.warning(pod, "app", "BackOff", "again")
			}
			later(3 * time.Second)
			last := s.events[len(s.events)-1].Events[0]
			if len(s.events) != 2 || last.Count != 6 || last.Name != s.events[0].Events[0].Name {
				t.Errorf("%d batches, the last event %+v, want 2 and the same event counted 6 times", len(s.events), last)
			}
			if last.InvolvedObject.FieldPath != "spec.containers{app}" || last.Source.Component != component || !strings.HasPrefix(last.Name, "web.") {
				t.Errorf("event = %+v", last)
			}
			for i := range 100 {
				r.normal(pod, "", "Noise", strings.Repeat("x", i))
			}
			r.normal(aPod("other"), "", "Calm", "one")
			later(3 * time.Second)
			noise, others := 0, 0
			for _, e := range s.events[len(s.events)-1].Events {
				if e.Reason == "Noise" {
					noise++
				} else {
					others++
				}
			}
			if noise > burstOfEvents || others != 1 {
				t.Errorf("%d events of a noisy Pod and %d of another, want at most %d and 1", noise, others, burstOfEvents)
			}
		}
	})
}

func TestEventsOutliveAServerThatIsAway(t *testing.T) {
	var r *recorder
	withSink(t, func(c *link.Client) (func(context.Context) error, func(*sink)) {
		r = newRecorder("n1", c, quiet())
		return r.run, func(s *sink) {
			s.fail = true
			r.normal(aPod("web"), "", "Started", "one")
			later(time.Minute)
			s.mu.Lock()
			s.fail = false
			s.mu.Unlock()
			later(15 * time.Second)
			if len(s.events) != 1 || len(s.events[0].Events) != 1 {
				t.Errorf("events = %+v, want the one", s.events)
			}
		}
	})
}

func TestSlotsPreferContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		if err := s.acquire(t.Context(), &s.sandboxes); err != nil {
			t.Fatal(err)
		}
		var order []string
		get := func(name string, queue *[]chan struct{}) {
			if s.acquire(t.Context(), queue) == nil {
				order = append(order, name)
				s.release()
			}
		}
		go get("sandbox", &s.sandboxes)
		synctest.Wait()
		go get("container", &s.containers)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- s.acquire(ctx, &s.containers) }()
		synctest.Wait()
		cancel()
		if err := <-left; err == nil {
			t.Error("a cancelled wait got a slot")
		}
		s.release()
		synctest.Wait()
		if diff := cmp.Diff([]string{"container", "sandbox"}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if s.free != 1 || len(s.containers)+len(s.sandboxes) != 0 {
			t.Errorf("%d slots free, want 1", s.free)
		}
	})
}

func TestPutBackNeverReplacesWhatCameMeanwhile(t *testing.T) {
	r := newReporter("n1", nil, quiet())
	r.set(statusNamed("a", "old"), calm)
	r.set(statusNamed("b", "old"), calm)
	inFlight := r.take()
	r.set(statusNamed("a", "new"), calm)
	r.remove(link.PodRef{UID: "b"})
	r.putBack(inFlight)
	if got := r.statuses["a"].Status.Message; got != "new" {
		t.Errorf("status of a = %q, want the newer one", got)
	}
	if _, back := r.statuses["b"]; back {
		t.Error("the status of a removed Pod came back")
	}
}
