package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// local is an API without a network, for tests in virtual time.
func local(store *state.Store) *api.API {
	return api.New(api.Config{Store: store, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// ask makes a request as a viewer, and waits for the end of the answer.
func ask(ctx context.Context, a *api.API, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.TLS = verified(identities["viewer"])
	a.ServeHTTP(w, r)
	return w
}

func events(t *testing.T, w *httptest.ResponseRecorder) (out []event) {
	t.Helper()
	for line := range strings.Lines(w.Body.String()) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		out = append(out, e)
	}
	return out
}

func TestWatchesHearBookmarksAndEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, pod("a", "1", ""))
		start := time.Now()
		w := ask(t.Context(), local(store), "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=150&resourceVersion=1")
		if took := time.Since(start); took != 150*time.Second {
			t.Errorf("the watch took %s, want 150s", took)
		}
		got := events(t, w)
		if len(got) != 2 || got[0].Type != "BOOKMARK" || got[0].Object.ResourceVersion != "1" || got[0].Object.Kind != "Pod" {
			t.Errorf("%+v, want two bookmarks at version 1", got)
		}
	})
}

func TestBookmarksNeverGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, pod("a", "1", ""))
		go func() {
			time.Sleep(30 * time.Second) // virtual
			statetest.Put(t, store, pod("a", "2", ""))
		}()
		got := events(t, ask(t.Context(), local(store), "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion=1"))
		if len(got) != 2 || got[0].Type != "ADDED" || got[1].Type != "BOOKMARK" || got[1].Object.ResourceVersion != "2" {
			t.Errorf("%+v, want the Pod and a bookmark at its version", got)
		}
	})
}

func TestEndingTheServerEndsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := local(statetest.New(t, pod("a", "1", "")))
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = a.Run(ctx) }()
		go func() {
			time.Sleep(time.Second) // virtual
			stop()
		}()
		start := time.Now()
		if w := ask(t.Context(), a, "/api/v1/pods?watch=true"); w.Code != http.StatusOK || time.Since(start) != time.Second {
			t.Errorf("%d after %s, want 200 that ends after 1s", w.Code, time.Since(start))
		}
	})
}

func TestTheFutureIsWaitedForALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, pod("a", "1", ""))
		a := local(store)
		for _, query := range []string{"resourceVersion=9", "watch=true&resourceVersion=9"} {
			start := time.Now()
			w := ask(t.Context(), a, "/api/v1/pods?"+query)
			var status metav1.Status
			if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || w.Code != http.StatusGatewayTimeout || time.Since(start) != 3*time.Second {
				t.Fatalf("%s: %d %s after %s (%v), want 504 after 3s", query, w.Code, w.Body, time.Since(start), err)
			}
			if len(status.Details.Causes) != 1 || status.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
				t.Errorf("%s: %+v, want the cause that client-go looks for", query, status)
			}
		}
		var writer sync.WaitGroup
		defer writer.Wait() // it hears of its write a little after everybody else
		writer.Go(func() {
			time.Sleep(time.Second) // virtual
			statetest.Put(t, store, pod("a", "2", ""))
		})
		if w := ask(t.Context(), a, "/api/v1/pods?resourceVersion=2"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"name":"2"`) {
			t.Errorf("%d %s, want what came within the time", w.Code, w.Body)
		}
	})
}
