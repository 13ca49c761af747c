package routing

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// server tells one answer after another; when there is none left, polls last as long as they may.
type server struct {
	mu      sync.Mutex
	answers []link.NetworkResponse // guarded by mu
	asked   []link.NetworkRequest  // guarded by mu
	more    chan struct{}          // guarded by mu
	away    bool                   // guarded by mu
}

func (s *server) tell(answers ...link.NetworkResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, answers...)
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	var req link.NetworkRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.asked = append(s.asked, req)
	away := s.away
	if s.more == nil {
		s.more = make(chan struct{})
	}
	more, waits := s.more, len(s.answers) == 0
	s.mu.Unlock()
	if away {
		return nil, errors.New("connection refused")
	}
	resp := link.NetworkResponse{Store: req.Store, Version: req.After}
	if waits {
		select {
		case <-more:
		case <-time.After(req.Wait.Duration):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	s.mu.Lock()
	if len(s.answers) > 0 {
		resp, s.answers = s.answers[0], s.answers[1:]
	}
	s.mu.Unlock()
	w := httptest.NewRecorder()
	_ = json.NewEncoder(w).Encode(resp)
	return w.Result(), nil
}

// table is a router that remembers what it was called with.
type table struct {
	mu    sync.Mutex
	calls []string // guarded by mu
	fail  error    // guarded by mu
}

func (r *table) fails(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *table) apply(_ context.Context, n *link.Network, c link.NetworkChange) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var parts []string
	if c.Whole {
		parts = append(parts, "Whole")
	}
	if c.Peers {
		parts = append(parts, "Peers")
	}
	for service, byName := range n.Slices {
		if !c.Whole && !slices.Contains(c.Services, service) {
			continue
		}
		for _, s := range byName {
			for _, e := range s.Endpoints {
				state := "down"
				if *e.Conditions.Ready {
					state = "up"
				}
				parts = append(parts, service.Name+"="+e.Addresses[0]+" "+state)
			}
		}
	}
	slices.Sort(parts)
	if len(parts) > 0 {
		r.calls = append(r.calls, strings.Join(parts, ", "))
	}
	return r.fail
}

// routed runs a Follower in virtual time.
func routed(t *testing.T, dir string, test func(t *testing.T, s *server, f *Follower, r *table)) {
	t.Helper()
	routedBy(t, Config{DataDir: dir}, test)
}

// routedBy is routed with more of a Config.
func routedBy(t *testing.T, cfg Config, test func(t *testing.T, s *server, f *Follower, r *table)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, r := &server{}, &table{}
		cfg.Node, cfg.Client, cfg.Routers = "n1", link.NewVia(s, "http://server"), []Router{{Name: "table", Apply: r.apply}}
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		f := New(cfg)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := f.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		test(t, s, f, r)
		stop()
		<-done
	})
}

func whole(version uint64, slices ...discoveryv1.EndpointSlice) link.NetworkResponse {
	return link.NetworkResponse{
		Store: "s", Version: version, Whole: true, EndpointSlices: slices,
		Services: []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}}},
	}
}

func slice(name, address, uid string, ready bool) discoveryv1.EndpointSlice {
	terminating := false
	return discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: &terminating},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", UID: types.UID(uid)},
		}},
	}
}

func (r *table) want(t *testing.T, calls ...string) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(calls, r.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	r.calls = nil
}

func TestRoutersHearOfChanges(t *testing.T) {
	routed(t, "", func(t *testing.T, s *server, f *Follower, r *table) {
		if _, ok := f.Services("a"); ok {
			t.Error("Services are known although no server has told of any")
		}
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "Whole, web=10.0.0.2 up")
		s.tell(link.NetworkResponse{Store: "s", Version: 7, EndpointSlices: []discoveryv1.EndpointSlice{slice("web-2", "10.0.0.3", "u2", false)}})
		r.want(t, "web=10.0.0.2 up, web=10.0.0.3 down")
		s.tell(link.NetworkResponse{Store: "s", Version: 8, Gone: []link.NetworkRef{{Kind: link.KindEndpointSlice, Namespace: "a", Name: "web-1"}}})
		r.want(t, "web=10.0.0.3 down")
		s.tell(link.NetworkResponse{Store: "s", Version: 9, Peers: []link.Peer{{Name: "n2"}}})
		r.want(t, "Peers")
		if services, ok := f.Services("a"); !ok || len(services) != 1 {
			t.Errorf("%v, %t, want the one Service", services, ok)
		}
		if last := s.asked[len(s.asked)-1]; last.Store != "s" || last.After != 9 {
			t.Errorf("asked for what comes after %d of %q, want 9 of s", last.After, last.Store)
		}
	})
}

// What another store holds replaces what is known only as a whole: a part of it would be mixed up with what is no more.
func TestAPartOfAnotherStoreIsNotTaken(t *testing.T) {
	routed(t, "", func(t *testing.T, s *server, f *Follower, r *table) {
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "Whole, web=10.0.0.2 up")
		s.tell(link.NetworkResponse{Store: "other", Version: 3, Gone: []link.NetworkRef{{Kind: link.KindEndpointSlice, Namespace: "a", Name: "web-1"}}})
		r.want(t)
		all := whole(4, slice("web-2", "10.0.0.3", "u2", true))
		all.Store = "other"
		s.tell(all)
		time.Sleep(firstRetry) // virtual
		r.want(t, "Whole, web=10.0.0.3 up")
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.ContainsFunc(s.asked[1:], func(q link.NetworkRequest) bool { return q.Store == "" && q.After == 0 }) {
			t.Errorf("asked %+v, want everything asked for after the part", s.asked)
		}
	})
}

// P5: a Pod's readiness is known here first, and without servers only here.
func TestThisNodeKnowsItsOwnPodsBest(t *testing.T) {
	routed(t, "", func(t *testing.T, s *server, f *Follower, r *table) {
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true), slice("web-2", "10.0.0.3", "u2", true)))
		r.want(t, "Whole, web=10.0.0.2 up, web=10.0.0.3 up")
		s.mu.Lock()
		s.away = true
		s.mu.Unlock()
		f.SetLocal("u1", Local{Ready: false, Address: "10.0.0.2"})
		r.want(t, "web=10.0.0.2 down, web=10.0.0.3 up")
		f.SetLocal("u1", Local{Ready: false, Address: "10.0.0.2"})
		f.SetLocal("elsewhere", Local{Ready: true})
		r.want(t)
		f.SetLocal("u1", Local{Ready: true, Address: "10.0.0.9"}) // its sandbox was made anew
		r.want(t, "web=10.0.0.3 up, web=10.0.0.9 up")
		f.EndLocal("u1")
		r.want(t, "web=10.0.0.2 down, web=10.0.0.3 up")
	})
}

func TestServersSayWhatIsTerminating(t *testing.T) {
	leaving := slice("web-1", "10.0.0.2", "u1", true)
	yes, no := true, false
	leaving.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	routed(t, "", func(t *testing.T, s *server, f *Follower, r *table) {
		f.SetLocal("u1", Local{Ready: true, Address: "10.0.0.2"})
		r.want(t)
		s.tell(whole(5, leaving))
		r.want(t, "Whole, web=10.0.0.2 down")
	})
}

func TestARouterThatFailedIsToldEverythingAgain(t *testing.T) {
	routed(t, "", func(t *testing.T, s *server, f *Follower, r *table) {
		r.fails(errors.New("no nft"))
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "Whole, web=10.0.0.2 up")
		if got := f.Problem(); got != "table: no nft" {
			t.Errorf("Problem() = %q", got)
		}
		r.fails(nil)
		time.Sleep(checkEvery) // virtual
		r.want(t, "Whole, web=10.0.0.2 up")
		if got := f.Problem(); got != "" {
			t.Errorf("Problem() = %q after it went well", got)
		}
	})
}

// P5: an agent that starts while no server answers routes as it did before.
func TestTheNetworkOutlivesARestartWithoutServers(t *testing.T) {
	dir := t.TempDir()
	routed(t, dir, func(t *testing.T, s *server, _ *Follower, r *table) {
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "Whole, web=10.0.0.2 up")
	})
	routed(t, dir, func(t *testing.T, s *server, _ *Follower, r *table) {
		r.want(t, "Whole, web=10.0.0.2 up")
		if first := s.asked[0]; first.Store != "s" || first.After != 5 {
			t.Errorf("asked for what comes after %d of %q, want 5 of s", first.After, first.Store)
		}
	})
}

// A machine that loses its power does not get to save anything: each change is on its disk a moment after it was heard of.
func TestTheNetworkOutlivesAPowerCut(t *testing.T) {
	dir := t.TempDir()
	routed(t, dir, func(t *testing.T, s *server, _ *Follower, r *table) {
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "Whole, web=10.0.0.2 up")
		for version, address := range []string{"10.0.0.3", "10.0.0.4"} {
			s.tell(link.NetworkResponse{Store: "s", Version: 6 + uint64(version), EndpointSlices: []discoveryv1.EndpointSlice{slice("web-1", address, "u1", true)}})
			r.want(t, "web="+address+" up")
			time.Sleep(time.Second) // virtual
			if kept, err := os.ReadFile(filepath.Join(dir, networkFile)); err != nil || !strings.Contains(string(kept), address) {
				t.Errorf("a second later %s is not kept: %s (%v)", address, kept, err)
			}
		}
	})
}

// E22: nothing is stopped before Services have turned to other Pods.
func TestDrainLastsUntilNoServiceSendsConnections(t *testing.T) {
	routed(t, "", func(t *testing.T, s *server, f *Follower, r *table) {
		f.Drain(t.Context(), "u1") // nobody knows of any Service
		s.tell(whole(5, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "Whole, web=10.0.0.2 up")
		start := time.Now()
		f.Drain(t.Context(), "unused")
		if took := time.Since(start); took != 0 {
			t.Errorf("a Pod that no Service knows was drained for %s", took)
		}
		time.AfterFunc(time.Second, func() {
			leaving := slice("web-1", "10.0.0.2", "u1", false)
			s.tell(link.NetworkResponse{Store: "s", Version: 6, EndpointSlices: []discoveryv1.EndpointSlice{leaving}})
		})
		f.Drain(t.Context(), "u1")
		if took := time.Since(start); took != time.Second+otherNodes {
			t.Errorf("drained after %s, want %s after the Service turned away", took-time.Second, otherNodes)
		}
		ending := slice("web-1", "10.0.0.2", "u1", false)
		*ending.Endpoints[0].Conditions.Terminating = true
		s.tell(link.NetworkResponse{Store: "s", Version: 6, EndpointSlices: []discoveryv1.EndpointSlice{ending}})
		synctest.Wait()
		start = time.Now()
		f.Drain(t.Context(), "u1")
		if took := time.Since(start); took != otherNodes {
			t.Errorf("drained after %s though other nodes may hear of it only now, want %s", took, otherNodes)
		}
		s.tell(whole(7, slice("web-1", "10.0.0.2", "u1", true)))
		r.want(t, "web=10.0.0.2 down", "web=10.0.0.2 down", "Whole, web=10.0.0.2 up")
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		start = time.Now()
		f.Drain(ctx, "u1")
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("drained after %s although connections are sent, want to give up after 3s", took)
		}
	})
}
