package link

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// handlers answers requests in process, by host.
type handlers map[string]http.HandlerFunc

func (h handlers) RoundTrip(r *http.Request) (*http.Response, error) {
	handle, ok := h[r.URL.Host]
	if !ok {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	handle(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

func refuse(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func TestClientCarriesRequestAndAnswer(t *testing.T) {
	want := PodsRequest{Node: "n1", After: 7, Have: map[types.UID]string{"u": "3"}, Wait: metav1.Duration{Duration: time.Minute}}
	var got PodsRequest
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != PathPods || r.Method != http.MethodPost {
			t.Errorf("%s %s, want POST %s", r.Method, r.URL.Path, PathPods)
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		answer(PodsResponse{Version: 8, Gone: []types.UID{"u"}})(w, r)
	}))
	defer srv.Close()
	c := New([]string{strings.TrimPrefix(srv.URL, "https://")}, func() *tls.Config { return srv.Client().Transport.(*http.Transport).TLSClientConfig })
	resp, err := c.Pods(context.Background(), want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(PodsResponse{Version: 8, Gone: []types.UID{"u"}}, resp); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestClientMovesOnAndStays(t *testing.T) {
	var a, b atomic.Int32
	c := NewVia(handlers{
		"a": func(w http.ResponseWriter, r *http.Request) { a.Add(1); refuse(503, "starting")(w, r) },
		"b": func(w http.ResponseWriter, r *http.Request) {
			b.Add(1)
			answer(Registered{PodCIDR: "10.0.0.0/24"})(w, r)
		},
	}, "gone", "a", "b")
	for range 3 {
		if _, err := c.Register(context.Background(), Registration{}); err != nil {
			t.Fatal(err)
		}
	}
	if a.Load() > 1 || b.Load() != 3 {
		t.Errorf("server a was asked %d times and b %d times, want 1 at most and 3", a.Load(), b.Load())
	}
}

func TestClientTriesEveryServerOnce(t *testing.T) {
	var asked atomic.Int32
	down := func(w http.ResponseWriter, r *http.Request) { asked.Add(1); refuse(500, "")(w, r) }
	c := NewVia(handlers{"a": down, "b": down}, "a", "b")
	if err := c.Report(context.Background(), Report{}); !apierrors.IsInternalError(err) {
		t.Errorf("err = %v, want an internal error", err)
	}
	if asked.Load() != 2 {
		t.Errorf("%d requests, want 2", asked.Load())
	}
	if err := NewVia(handlers{}).Report(context.Background(), Report{}); !errors.Is(err, errNoServers) {
		t.Errorf("err = %v, want errNoServers", err)
	}
}

func TestWhereNoServerAnswersEachIsNamedAndWhatToCheck(t *testing.T) {
	_, err := NewVia(handlers{}, "a:7443", "b:7443").Register(t.Context(), Registration{})
	for _, want := range []string{"https://a:7443", "https://b:7443", "connection refused", "check that a server runs there"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err = NewVia(handlers{"a:7443": refuse(http.StatusServiceUnavailable, "no leader")}, "a:7443").Register(t.Context(), Registration{}); err == nil || strings.Contains(err.Error(), "check that") {
		t.Errorf("a server answers that it cannot, and the advice is to see whether it runs: %v", err)
	}
}

func TestClientDecodesRefusals(t *testing.T) {
	status, err := json.Marshal(apierrors.NewConflict(NodesResource, "n1", errors.New("node n1 belongs to another cluster")).ErrStatus)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		code int
		body string
		is   func(error) bool
		want string
	}{
		"status":    {409, `{"kind":"Status","apiVersion":"v1",` + string(status[1:]), apierrors.IsConflict, "belongs to another cluster"},
		"no status": {404, "404 page not found: s3cr3t", apierrors.IsNotFound, PathRegister},
		"too long":  {403, strings.Repeat("s3cr3t", maxErrorAnswer), apierrors.IsForbidden, PathRegister},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			counted := func(w http.ResponseWriter, r *http.Request) { asked++; refuse(tc.code, tc.body)(w, r) }
			c := NewVia(handlers{"a": counted, "b": counted}, "a", "b")
			_, err := c.Register(context.Background(), Registration{})
			if !tc.is(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want one that says %q", err, tc.want)
			}
			if asked != 1 {
				t.Errorf("the refusal was heard from %d servers", asked)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Error("the error quotes what the server sent")
			}
		})
	}
}

func TestConfigErrorsHideTheAnswer(t *testing.T) {
	c := NewVia(handlers{"a": refuse(200, `{"secrets":[{"metadata":{"name":s3cr3t}}]}`)}, "a")
	if _, err := c.Config(context.Background(), ConfigRequest{}); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("err = %v, want one without the answer", err)
	}
}

func TestClientGivesUpOnASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		start := time.Now()
		_, err := NewVia(handlers{"a": silent}, "a").Pods(t.Context(), PodsRequest{Wait: metav1.Duration{Duration: 30 * time.Second}})
		if took := time.Since(start); took != 40*time.Second {
			t.Errorf("gave up after %s, want 40s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "did not answer within 40s") {
			t.Errorf("err = %v, want one that says how long it waited", err)
		}
	})
}

// spread counts which server each of many clients is with.
func spread(t *testing.T, clients []*Client) map[string]int {
	t.Helper()
	with := map[string]int{}
	for _, c := range clients {
		got, err := c.Register(t.Context(), Registration{})
		if err != nil {
			t.Fatal(err)
		}
		with[got.Store]++
	}
	return with
}

func TestClientsSpreadAndOnlyThoseOfADeadServerMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := handlers{}
		for _, name := range []string{"a", "b", "c"} {
			world[name] = answer(Registered{Store: name})
		}
		clients := make([]*Client, 300)
		for i := range clients {
			clients[i] = NewVia(world, "a")
			clients[i].Learn([]string{"a", "b", "c"})
		}
		start, before := time.Now(), spread(t, clients)
		for _, c := range clients {
			if c.Learn([]string{"c", "b", "a"}) {
				t.Fatal("the same servers in another order are news")
			}
		}
		if again := spread(t, clients); before["a"] < 50 || before["b"] < 50 || before["c"] < 50 || again["a"] != before["a"] || again["b"] != before["b"] {
			t.Errorf("clients are with %v, then with %v; want about a third with each, and all to stay", before, again)
		}
		world["b"] = refuse(503, "no leader")
		after := spread(t, clients)
		if after["a"] < before["a"]+before["b"]/4 || after["c"] < before["c"]+before["b"]/4 || after["b"] != 0 {
			t.Errorf("clients are with %v, then without b with %v", before, after)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("to move took %s, want it to be at once", took)
		}
	})
}

// After a rolling restart all clients may be with one server. An hour after the others are back each has its share again, and no
// call has failed.
func TestClientsSpreadAgainOverServersThatAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answering := func(name string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Minute) // as a poll that nothing changes for
				answer(PodsResponse{Store: name})(w, r)
			}
		}
		world := handlers{"a": answering("a"), "b": refuse(503, "restarting"), "c": refuse(503, "restarting")}
		clients := make([]*Client, 240)
		for i := range clients {
			clients[i] = NewVia(world, "a", "b", "c")
		}
		if with := pollFor(t, clients, time.Minute); with["a"] != len(clients) {
			t.Fatalf("clients are with %v, want all with a", with)
		}
		world["b"], world["c"] = answering("b"), answering("c")
		with := pollFor(t, clients, redrawWithin)
		for _, name := range []string{"a", "b", "c"} {
			if with[name] < len(clients)/6 {
				t.Errorf("an hour after all are back, clients are with %v", with)
			}
		}
	})
}

// pollFor has all clients poll for a while, and counts which server answered each at last.
func pollFor(t *testing.T, clients []*Client, d time.Duration) map[string]int {
	t.Helper()
	last := make([]string, len(clients))
	var polls sync.WaitGroup
	for i, c := range clients {
		polls.Go(func() {
			for end := time.Now().Add(d); time.Now().Before(end); {
				got, err := c.Pods(t.Context(), PodsRequest{Wait: metav1.Duration{Duration: time.Minute}})
				if err != nil {
					t.Error(err)
				}
				last[i] = got.Store
			}
		})
	}
	polls.Wait()
	with := map[string]int{}
	for _, name := range last {
		with[name]++
	}
	return with
}

// A client that has an answer stays where it is when servers come and go; one whose server is removed leaves it.
func TestClientFollowsTheServersThatThereAre(t *testing.T) {
	world := handlers{"a": answer(Registered{Store: "a"}), "b": answer(Registered{Store: "b"}), "c": answer(Registered{Store: "c"})}
	c := NewVia(world, "seed")
	c.Learn([]string{"a"})
	for _, known := range [][]string{{"a", "b"}, {"c", "b", "a"}, {"b", "a"}} {
		if with := spread(t, []*Client{c}); with["a"] != 1 {
			t.Fatalf("it is with %v, want a", with)
		}
		if !c.Learn(known) {
			t.Errorf("%v is no news", known)
		}
	}
	c.Learn([]string{"b"})
	if with := spread(t, []*Client{c}); with["b"] != 1 {
		t.Errorf("it is with %v, which was removed", with)
	}
}
