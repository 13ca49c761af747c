package link

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
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
	c := New([]string{strings.TrimPrefix(srv.URL, "https://")}, srv.Client().Transport.(*http.Transport).TLSClientConfig)
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
	if a.Load() != 1 || b.Load() != 3 {
		t.Errorf("server a was asked %d times and b %d times, want 1 and 3", a.Load(), b.Load())
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
			second := func(http.ResponseWriter, *http.Request) { t.Error("a refusal was taken to another server") }
			c := NewVia(handlers{"a": refuse(tc.code, tc.body), "b": second}, "a", "b")
			_, err := c.Register(context.Background(), Registration{})
			if !tc.is(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want one that says %q", err, tc.want)
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
