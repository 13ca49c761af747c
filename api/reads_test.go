package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func names(pods []corev1.Pod) (out []string) {
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return out
}

func TestPagesAreOneState(t *testing.T) {
	s := serve(t, api.Config{}, pod("a", "1", ""), pod("a", "2", ""), pod("b", "1", ""), pod("b", "3", ""))
	var first, second, third corev1.PodList
	s.get("/api/v1/pods?limit=2", &first)
	if got := names(first.Items); !slices.Equal(got, []string{"1", "2"}) || *first.RemainingItemCount != 2 {
		t.Fatalf("first page %v, %v left", got, first.RemainingItemCount)
	}
	remove(t, s.store, state.Key{Namespace: "b", Name: "3"})
	statetest.Put(t, s.store, pod("b", "2", ""))
	s.get("/api/v1/pods?limit=1&continue="+url.QueryEscape(first.Continue), &second)
	s.get("/api/v1/pods?limit=9&continue="+url.QueryEscape(second.Continue), &third)
	got := append(names(second.Items), names(third.Items)...)
	if !slices.Equal(got, []string{"1", "3"}) || third.Continue != "" {
		t.Errorf("later pages %v, want what there was at first", got)
	}
	if first.ResourceVersion != third.ResourceVersion {
		t.Errorf("versions %s and %s differ between pages", first.ResourceVersion, third.ResourceVersion)
	}
	other := serve(t, api.Config{Store: s.store}) // another server, or this one after a restart
	if status := other.refused("admin", "GET", "/api/v1/pods?limit=1&continue="+url.QueryEscape(first.Continue), nil); status.Code != http.StatusGone || status.Reason != metav1.StatusReasonExpired {
		t.Errorf("a page of a forgotten state: %+v, want 410 Expired", status)
	}
	if status := s.refused("admin", "GET", "/api/v1/pods?continue=nonsense", nil); status.Code != http.StatusBadRequest {
		t.Errorf("a bad token: %d, want 400", status.Code)
	}
}

// others are the servers whose word a read needs.
type others struct{ err atomic.Pointer[error] }

func (o *others) say(err error) { o.err.Store(&err) }

func (o *others) readIndex(context.Context) error {
	if err := o.err.Load(); err != nil {
		return *err
	}
	return nil
}

func TestResourceVersions(t *testing.T) {
	quorum := errors.New("no quorum")
	var others others
	s := serve(t, api.Config{ReadIndex: others.readIndex}, pod("a", "1", ""), pod("a", "2", ""))
	now := int(s.store.View().Version)
	for _, tc := range []struct {
		query   string
		barrier error
		want    int
	}{
		{"", nil, 200}, {"", quorum, 503}, {"resourceVersion=0", quorum, 200}, {fmt.Sprintf("resourceVersion=%d", now), quorum, 200},
		{"resourceVersion=1", nil, 200}, {"resourceVersion=x", nil, 400},
		{fmt.Sprintf("resourceVersion=%d&resourceVersionMatch=Exact", now), nil, 200},
		{"resourceVersion=1&resourceVersionMatch=Exact", nil, 410},
		{"resourceVersion=0&resourceVersionMatch=Exact", nil, 422}, {"resourceVersionMatch=Exact", nil, 422}, {"resourceVersion=1&resourceVersionMatch=Soon", nil, 422},
		{"sendInitialEvents=true", nil, 422}, {"watch=true&sendInitialEvents=true", nil, 422},
		{"labelSelector=((", nil, 400}, {"fieldSelector=spec.nothing%3D1", nil, 400}, {"fieldSelector=spec.containers%3D1", nil, 400}, {"limit=x", nil, 400},
		{"watch=true", quorum, 503}, {"watch=true&resourceVersion=x", nil, 400},
	} {
		others.say(tc.barrier)
		code, out := s.do("admin", "GET", "/api/v1/pods?"+tc.query, nil)
		if code != tc.want {
			t.Errorf("%s: %d %s, want %d", tc.query, code, out, tc.want)
		}
	}
}

func TestNothingIsReadOfAServerThatHasNotCaughtUp(t *testing.T) {
	var others others
	others.say(errors.New("no quorum"))
	s := serve(t, api.Config{ReadIndex: others.readIndex}, pod("a", "1", ""))
	for _, query := range []string{"", "?resourceVersion=0", "?resourceVersion=0&watch=true"} {
		status := s.refused("admin", "GET", "/api/v1/pods"+query, nil)
		if status.Code != http.StatusServiceUnavailable || !strings.Contains(status.Message, "ask another server") {
			t.Errorf("%q: %d %s", query, status.Code, status.Message)
		}
	}
	others.say(nil)
	s.do("admin", "GET", "/api/v1/pods", nil)
	others.say(errors.New("no quorum any more"))
	if code, out := s.do("admin", "GET", "/api/v1/pods?resourceVersion=0", nil); code != http.StatusOK {
		t.Errorf("a server that had caught up: %d %s", code, out)
	}
}

func TestSelectors(t *testing.T) {
	a, b, c := pod("x", "a", "n1"), pod("x", "b", ""), pod("y", "c", "n1")
	a.Labels, c.Labels = map[string]string{"app": "web"}, map[string]string{"app": "db"}
	c.Status.Phase, c.Spec.HostNetwork = corev1.PodSucceeded, true
	s := serve(t, api.Config{}, a, b, c)
	for query, want := range map[string]string{
		"labelSelector=app": "a c", "labelSelector=app%3Dweb": "a", "labelSelector=!app": "b", "labelSelector=app+in+(web,db)": "a c",
		"fieldSelector=spec.nodeName%3Dn1": "a c", "fieldSelector=spec.nodeName%3D": "b", "fieldSelector=metadata.name%3Dc": "c", "fieldSelector=metadata.namespace%3Dx": "a b",
		"fieldSelector=spec.nodeName%3Dn1,status.phase!%3DSucceeded": "a", "fieldSelector=spec.hostNetwork%3Dtrue": "c", "labelSelector=app&fieldSelector=metadata.name%3Da": "a",
	} {
		var list corev1.PodList
		s.get("/api/v1/pods?"+query, &list)
		if got := strings.Join(names(list.Items), " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// event is one event of a watch of Pods.
type event struct {
	Type   string
	Object corev1.Pod
}

// stream begins a request that stays open, and returns what comes.
func (s *server) stream(path, accept string) *bufio.Reader {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", s.http.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer viewer")
	req.Header.Set("Accept", accept)
	resp, err := s.http.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("GET %s: %d %s", path, resp.StatusCode, body)
	}
	return bufio.NewReader(resp.Body)
}

// open starts a watch of Pods; the function it returns gives one event after the other, false at the end.
func (s *server) open(query string) func() (event, bool) {
	s.t.Helper()
	lines := s.stream("/api/v1/pods?watch=true&"+query, "application/json")
	return func() (e event, ok bool) {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return event{}, false
		}
		if err := json.Unmarshal(line, &e); err != nil {
			s.t.Fatalf("%v in %s", err, line)
		}
		return e, true
	}
}

// mutate makes random changes of few Pods, so that they are created, changed and deleted over and over.
func mutate(t *testing.T, s *state.Store, n int) {
	for range n {
		key := state.Key{Namespace: "a", Name: strconv.Itoa(rand.IntN(5))}
		statetest.Update(t, s, func(tx *state.Txn) {
			for range 1 + rand.IntN(3) { // several changes in one transaction
				key.Name = strconv.Itoa(rand.IntN(5))
				old, ok := state.Get[*corev1.Pod](tx, key)
				switch {
				case !ok:
					tx.Create(pod(key.Namespace, key.Name, ""))
				case rand.IntN(4) == 0 && old.ResourceVersion != "":
					tx.Delete(old)
					return
				case old.ResourceVersion != "":
					p := old.DeepCopy()
					p.Labels = map[string]string{"app": []string{"web", "db"}[rand.IntN(2)]}
					p.Spec.Priority = new(rand.Int32())
					tx.Update(p)
					return
				}
			}
		})
	}
}

// A watch that resumes at any version, with or without a selector, ends with the same objects as a list, and no event
// comes twice, out of order or not at all.
func TestWatchResumesAtEveryVersion(t *testing.T) {
	s := serve(t, api.Config{})
	states := map[state.Version]map[string]string{0: {}} // name → version, by version of the store
	collect := func(query string) map[string]string {
		var list corev1.PodList
		s.get("/api/v1/pods?"+query, &list)
		out := map[string]string{}
		for _, p := range list.Items {
			out[p.Name] = p.ResourceVersion
		}
		return out
	}
	for range 40 {
		mutate(t, s.store, 1)
		states[s.store.View().Version] = collect("")
	}
	end := s.store.View().Version
	statetest.Put(t, s.store, pod("a", "the-end", ""))
	want, wantWeb := collect(""), collect("labelSelector=app%3Dweb")
	for from, objects := range states {
		if from == 0 {
			continue // means something else
		}
		next := s.open("resourceVersion=" + strconv.FormatUint(uint64(from), 10))
		have, last := maps.Clone(objects), from
		for {
			e, ok := next()
			if !ok {
				t.Fatalf("the watch from %d ended", from)
			}
			v, _ := strconv.ParseUint(e.Object.ResourceVersion, 10, 64)
			if state.Version(v) != last+1 { // versions are dense, and only Pods change here
				t.Fatalf("from %d: version %d follows %d", from, v, last)
			}
			last = state.Version(v)
			_, had := have[e.Object.Name]
			if had != (e.Type != "ADDED") {
				t.Fatalf("from %d: %s of %s, which was there: %v", from, e.Type, e.Object.Name, had)
			}
			if have[e.Object.Name] = e.Object.ResourceVersion; e.Type == "DELETED" {
				delete(have, e.Object.Name)
			}
			if last == end+1 {
				break
			}
		}
		if !maps.Equal(have, want) {
			t.Errorf("from %d: %v, want %v", from, have, want)
		}
	}
	// With a selector: from the first version, what is left over is what a list finds.
	have := map[string]string{}
	next := s.open("resourceVersion=1&labelSelector=app%3Dweb")
	statetest.Update(t, s.store, func(tx *state.Txn) {
		p := pod("a", "sentinel", "")
		p.Labels = map[string]string{"app": "web"}
		tx.Create(p)
	})
	for {
		e, ok := next()
		if !ok {
			t.Fatal("the watch ended")
		}
		if e.Object.Name == "sentinel" {
			break
		}
		if have[e.Object.Name] = e.Object.ResourceVersion; e.Type == "DELETED" {
			delete(have, e.Object.Name)
		}
	}
	if !maps.Equal(have, wantWeb) {
		t.Errorf("selected: %v, want %v", have, wantWeb)
	}
}

func TestWatchBeginsWithWhatThereIs(t *testing.T) {
	s := serve(t, api.Config{}, pod("a", "1", ""), pod("a", "2", ""))
	for query, want := range map[string]string{
		"":                  "ADDED 1 ADDED 2 ADDED 3",
		"resourceVersion=0": "ADDED 1 ADDED 2 ADDED 3",
		"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true":  "ADDED 1 ADDED 2 BOOKMARK ADDED 3",
		"sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true": "ADDED 3",
	} {
		next := s.open(query)
		statetest.Put(t, s.store, pod("a", "3", ""))
		var got []string
		for !slices.Contains(got, "3") {
			e, ok := next()
			if !ok {
				t.Fatalf("%s: the watch ended after %v", query, got)
			}
			got = append(got, e.Type)
			if e.Type == "BOOKMARK" {
				if e.Object.Annotations[metav1.InitialEventsAnnotationKey] != "true" || e.Object.ResourceVersion == "" {
					t.Errorf("%s: bookmark %+v", query, e.Object.ObjectMeta)
				}
				continue
			}
			got = append(got, e.Object.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
		remove(t, s.store, state.Key{Namespace: "a", Name: "3"})
	}
}

func TestWatchOfTheForgottenIsGone(t *testing.T) {
	s := serve(t, api.Config{}, pod("a", "1", ""))
	fork := statetest.Run(t, state.Fork(s.store.View(), time.Now)) // knows no changes before now
	f := serve(t, api.Config{Store: fork})
	remove(t, fork, state.Key{Namespace: "a", Name: "1"})
	if status := f.refused("admin", "GET", "/api/v1/pods?watch=true&resourceVersion=0&sendInitialEvents=false", nil); status.Code != 422 {
		t.Errorf("%+v", status)
	}
	statetest.Put(t, s.store, &object.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	late := serve(t, api.Config{Store: statetest.Run(t, state.Fork(s.store.View(), time.Now))})
	status := late.refused("admin", "GET", "/api/v1/pods?watch=true&resourceVersion=1", nil)
	if status.Code != http.StatusGone || status.Reason != metav1.StatusReasonExpired {
		t.Errorf("%+v, want 410 Expired", status)
	}
}

func TestTablesAndMetadata(t *testing.T) {
	s := serve(t, api.Config{}, shop()...)
	const path = "/api/v1/namespaces/shop/pods"
	for query, wantKind := range map[string]string{"": "PartialObjectMetadata", "?includeObject=Object": "Pod", "?includeObject=None": ""} {
		var table metav1.Table
		s.get(path+query, &table, "Accept", forms[3])
		if table.Kind != "Table" || len(table.Rows) != 2 || len(table.ColumnDefinitions) < 8 || table.ResourceVersion == "" {
			t.Fatalf("%s: %+v", query, table)
		}
		var row metav1.TypeMeta
		_ = json.Unmarshal(table.Rows[0].Object.Raw, &row) // nothing there is what None means
		if row.Kind != wantKind {
			t.Errorf("%s: rows carry %q, want %q", query, row.Kind, wantKind)
		}
	}
	var list metav1.PartialObjectMetadataList
	s.get(path, &list, "Accept", forms[4])
	if list.Kind != "PartialObjectMetadataList" || len(list.Items) != 2 || list.Items[0].Kind != "PartialObjectMetadata" || list.Items[0].UID == "" {
		t.Errorf("%+v", list)
	}
}
