package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestPodsPoll(t *testing.T) {
	ready := errors.New("recovering")
	s := serve(t, api.Config{Ready: func() error { return ready }}, cluster("home", ""), shopNode(metav1.ObjectMeta{Name: "n1"}), pod("a", "1", "n1"), pod("a", "2", "n2"))
	agent := s.agent("n1")
	ask := func(have map[types.UID]string) (link.PodsResponse, error) {
		return agent.Pods(t.Context(), link.PodsRequest{Node: "n1", Have: have, Wait: metav1.Duration{Duration: 30 * time.Second}})
	}
	if _, err := ask(map[types.UID]string{"x": "1"}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("while recovering: %v, want unavailable: nothing may be called gone", err)
	}
	ready = nil
	resp, err := ask(map[types.UID]string{"x": "1"})
	if err != nil || len(resp.Pods) != 1 || resp.Pods[0].Name != "1" || !slices.Equal(resp.Gone, []types.UID{"x"}) {
		t.Fatalf("%+v, %v", resp, err)
	}
	one := resp.Pods[0]
	have := map[types.UID]string{one.UID: one.ResourceVersion}

	answers := make(chan link.PodsResponse, 1)
	go func() {
		resp, err := ask(have)
		if err != nil {
			t.Error(err)
		}
		answers <- resp
	}()
	statetest.Put(t, s.store, pod("a", "3", "n2"), pod("a", "4", "n1")) // before or after the poll begins: no matter
	if resp := <-answers; len(resp.Pods) != 1 || resp.Pods[0].Name != "4" || resp.Version < 6 {
		t.Errorf("%+v, want the new Pod of this node", resp)
	}
	if _, err := s.agent("n3").Pods(t.Context(), link.PodsRequest{Node: "n3"}); !apierrors.IsNotFound(err) {
		t.Errorf("an unknown node: %v, want not found", err)
	}
	if _, err := s.agent("n2").Pods(t.Context(), link.PodsRequest{Node: "n1"}); !apierrors.IsForbidden(err) {
		t.Errorf("another node's Pods: %v, want forbidden", err)
	}
}

func TestPodsPollWakesOnlyForItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, shopNode(metav1.ObjectMeta{Name: "n1"}))
		a := local(store)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = a.Run(ctx) }()
		var took time.Duration
		var resp link.PodsResponse
		done := make(chan error)
		start := time.Now()
		go func() {
			var err error
			resp, err = link.NewVia(inProcess{a, "n1"}, "server").Pods(t.Context(), link.PodsRequest{Node: "n1", Wait: metav1.Duration{Duration: 20 * time.Second}})
			took = time.Since(start)
			done <- err
		}()
		time.Sleep(5 * time.Second) // virtual
		statetest.Put(t, store, pod("a", "theirs", "n2"))
		time.Sleep(5 * time.Second) // virtual
		statetest.Put(t, store, pod("a", "mine", "n1"))
		if err := <-done; err != nil || took != 10*time.Second || len(resp.Pods) != 1 || resp.Pods[0].Name != "mine" {
			t.Errorf("%+v, %v after %s, want the node's Pod after 10s", resp, err, took)
		}
		stop()
	})
}

// ended is a body that says when it has been read to its end, and not only as far as what it says.
type ended struct {
	io.Reader
	end bool
}

func (e *ended) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.end = e.end || err == io.EOF
	return n, err
}

// A body that was not read to its end is kept as long as its request lasts, by each of thousands of nodes.
func TestPollsReadTheirRequestToItsEnd(t *testing.T) {
	for path, request := range map[string]any{
		link.PathPods:    link.PodsRequest{Node: "n1", Wait: metav1.Duration{Duration: time.Second}},
		link.PathNetwork: link.NetworkRequest{Node: "n1", Wait: metav1.Duration{Duration: time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := local(statetest.New(t, shopNode(metav1.ObjectMeta{Name: "n1"})))
			text, err := json.Marshal(request)
			if err != nil {
				t.Fatal(err)
			}
			body := &ended{Reader: bytes.NewReader(text)}
			var answered atomic.Bool
			go func() {
				_, _ = inProcess{a, "n1"}.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, body))
				answered.Store(true)
			}()
			synctest.Wait()
			if answered.Load() || !body.end {
				t.Errorf("%s: answered %v, read to the end %v, while it waits", path, answered.Load(), body.end)
			}
			time.Sleep(2 * time.Second) // virtual: the end of the poll
		})
	}
}

// P6: a node hears at once which images it is to pull, as long as it does not say that it knows.
func TestPodsPollTellsWhatToPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := statetest.New(t, shopNode(metav1.ObjectMeta{Name: "n1"}))
		a := local(store)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = a.Run(ctx) }()
		ask := func(known ...string) (pull []string, took time.Duration) {
			start := time.Now()
			req := link.PodsRequest{Node: "n1", Pull: known, Wait: metav1.Duration{Duration: 20 * time.Second}}
			resp, err := link.NewVia(inProcess{a, "n1"}, "server").Pods(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			return resp.Pull, time.Since(start)
		}
		want := func(images string) {
			statetest.Update(t, store, func(tx *state.Txn) {
				n, _ := state.Get[*corev1.Node](tx, state.Key{Name: "n1"})
				n = n.DeepCopy()
				n.Annotations = map[string]string{object.PullAnnotation: images}
				tx.Update(n)
			})
		}
		var later sync.WaitGroup
		in5s := func(images string) {
			later.Go(func() {
				time.Sleep(5 * time.Second) // virtual
				want(images)
			})
		}
		in5s("b:1,a:1,b:1")
		pull, took := ask()
		if diff := cmp.Diff([]string{"a:1", "b:1"}, pull); diff != "" || took != 5*time.Second {
			t.Errorf("after %s, want 5s; (-want +got):\n%s", took, diff)
		}
		if pull, took = ask("a:1"); len(pull) != 2 || took != 0 {
			t.Errorf("%v after %s, want both images at once", pull, took)
		}
		if _, took = ask("a:1", "b:1"); took != 20*time.Second {
			t.Errorf("answered after %s although nothing was new", took)
		}
		in5s("")
		if pull, took = ask("a:1", "b:1"); len(pull) != 0 || took != 5*time.Second {
			t.Errorf("%v after %s, want none after 5s", pull, took)
		}
		later.Wait()
		stop()
	})
}
