package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// asServer reaches other servers as the server s2.
type asServer struct{ http.RoundTripper }

func (s asServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer s2")
	return s.RoundTripper.RoundTrip(r)
}

// follower is an API that takes the server at an address for the leader.
func follower(t *testing.T, leader func() *httptest.Server, objects ...object.Object) *server {
	t.Helper()
	return serve(t, api.Config{
		Leader: func(context.Context) (string, error) { return strings.TrimPrefix(leader().URL, "https://"), nil },
		Peers:  asServer{roundTripper(func(r *http.Request) (*http.Response, error) { return leader().Client().Transport.RoundTrip(r) })},
	}, objects...)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// call is what a leader was asked to do, by whom.
type call struct {
	What, Node, Machine string
	Local               bool // the address that was asked from is a client's of this test
}

func TestFollowersPassOnWhatWrites(t *testing.T) {
	var calls []call
	noted := func(c call, from netip.Addr) (link.Membership, error) {
		c.Local = from.IsLoopback()
		calls = append(calls, c)
		return link.Membership{Cluster: "prod"}, nil
	}
	leader := serve(t, api.Config{
		Join: func(_ context.Context, req link.JoinRequest, from netip.Addr) (link.Membership, error) {
			return noted(call{What: "join", Node: req.Node}, from)
		},
		Renew: func(_ context.Context, node, machine string, _ link.RenewRequest, from netip.Addr) (link.Membership, error) {
			return noted(call{What: "renew", Node: node, Machine: machine}, from)
		},
	}, cluster("prod", ""))
	s := follower(t, func() *httptest.Server { return leader.http }, cluster("prod", ""))
	s.api.Join, s.api.Renew = leader.api.Join, leader.api.Renew
	for path, body := range map[string]any{
		link.PathJoin: link.JoinRequest{Node: "n9"}, link.PathRenew: link.RenewRequest{},
		link.PathRegister: link.Registration{Cluster: "prod", Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}},
	} {
		token := "n1"
		if path == link.PathJoin {
			token = ""
		}
		if code, out := s.do(token, "POST", path, body); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, out)
		}
	}
	want := []call{{"join", "n9", "", true}, {"renew", "n1", "machine-1", true}}
	if diff := cmp.Diff(want, calls, cmpopts.SortSlices(func(a, b call) bool { return a.What < b.What })); diff != "" {
		t.Errorf("what the leader was asked (-want +got):\n%s", diff)
	}
	if _, ok := state.Get[*corev1.Node](leader.store.View(), state.Key{Name: "n1"}); !ok {
		t.Error("the leader does not know the node")
	}
	if _, ok := state.Get[*corev1.Node](s.store.View(), state.Key{Name: "n1"}); ok {
		t.Error("the follower has written")
	}
	status := link.Report{Node: "n1", NodeStatus: &corev1.NodeStatus{Phase: corev1.NodeRunning}}
	if code, out := s.do("n1", "POST", link.PathReport, status); code != http.StatusNoContent {
		t.Errorf("report: %d %s", code, out)
	}
	if got := s.refused("n2", "POST", link.PathReport, status); got.Code != http.StatusForbidden {
		t.Errorf("n2 speaks for n1 by way of a follower: %+v", got)
	}
}

// Who asked is believed of servers alone: anybody else could pass for anyone.
func TestOnlyServersSayWhoAsked(t *testing.T) {
	s := serve(t, api.Config{}, cluster("prod", ""))
	by := `{"name":"n1","groups":["mainstay:nodes"]}`
	body := link.Registration{Cluster: "prod", Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}}
	for _, token := range []string{"", "n2", "viewer", "admin", "stranger"} {
		if code, out := s.do(token, "POST", link.PathRegister, body, "Mainstay-Asked-By", by); code != http.StatusForbidden {
			t.Errorf("%q passes a request on: %d %s", token, code, out)
		}
	}
	if code, out := s.do("s2", "POST", link.PathRegister, body); code != http.StatusForbidden {
		t.Errorf("a server speaks for itself as a node: %d %s", code, out)
	}
	if code, out := s.do("s2", "POST", link.PathRegister, body, "Mainstay-Asked-By", `{"name":"n2","groups":["mainstay:nodes"]}`); code != http.StatusForbidden {
		t.Errorf("n2 speaks for n1 by way of a server: %d %s", code, out)
	}
	if code, out := s.do("s2", "POST", link.PathRegister, body, "Mainstay-Asked-By", by); code != http.StatusOK {
		t.Errorf("a server passes on: %d %s", code, out)
	}
}

// Two servers that take each other for the leader must not pass a request to and fro.
func TestARequestIsPassedOnOnce(t *testing.T) {
	var one, other *server
	one = follower(t, func() *httptest.Server { return other.http }, cluster("prod", ""))
	other = follower(t, func() *httptest.Server { return one.http }, cluster("prod", ""))
	got := one.refused("n1", "POST", link.PathReport, link.Report{Node: "n1"})
	if got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Message, "does not lead any more") || got.Details.RetryAfterSeconds != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWithoutALeaderANodeHearsToTryAgain(t *testing.T) {
	dead := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(dead.Close)
	for name, tc := range map[string]struct {
		s    *server
		says string
	}{
		"none":          {serve(t, api.Config{Leader: func(context.Context) (string, error) { return "", errors.New("no server leads") }}), "no server leads"},
		"one that dies": {follower(t, func() *httptest.Server { return dead }), "Whether it did what was asked is not known"},
		"one that lost its term": {serve(t, api.Config{Join: func(context.Context, link.JoinRequest, netip.Addr) (link.Membership, error) {
			return link.Membership{}, state.ErrUnknown
		}}), "outcome unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.s.refused("n1", "POST", link.PathJoin, link.JoinRequest{})
			if tc.s.api.Join == nil && tc.s.api.Leader != nil {
				got = tc.s.refused("n1", "POST", link.PathReport, link.Report{Node: "n1"})
			}
			if got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Message, tc.says) || got.Details.RetryAfterSeconds != 1 {
				t.Errorf("%+v, want 503 that says %q", got, tc.says)
			}
		})
	}
}

func TestWhatIsPassedOnIsBounded(t *testing.T) {
	asked := false
	leader := serve(t, api.Config{Join: func(context.Context, link.JoinRequest, netip.Addr) (link.Membership, error) {
		asked = true
		return link.Membership{}, nil
	}})
	s := follower(t, func() *httptest.Server { return leader.http })
	s.api.Join = leader.api.Join
	got := s.refused("", "POST", link.PathJoin, link.JoinRequest{Token: strings.Repeat("x", 20<<10)})
	if got.Code != http.StatusRequestEntityTooLarge || asked {
		t.Errorf("%+v, asked %t", got, asked)
	}
}

// A server that is behind makes sure before it sends a node away: one that has just registered elsewhere would register again,
// and again.
func TestAServerThatIsBehindDoesNotDisownANode(t *testing.T) {
	store := statetest.New(t, cluster("prod", ""))
	s := serve(t, api.Config{Store: store, ReadIndex: func(ctx context.Context) error {
		_, err := store.Update(ctx, func(tx *state.Txn) error {
			if _, ok := state.Get[*corev1.Node](tx, state.Key{Name: "n1"}); !ok {
				tx.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/24"}})
			}
			return nil
		})
		return err
	}})
	if code, out := s.do("n1", "POST", link.PathPods, link.PodsRequest{Node: "n1"}); code != http.StatusOK {
		t.Errorf("poll: %d %s", code, out)
	}
}

// The version in which a node is registered is the one from which it polls: an older view does not have what it brought.
func TestRegistrationTellsItsVersion(t *testing.T) {
	s := serve(t, api.Config{}, cluster("prod", ""))
	for range 2 {
		code, out := s.do("n1", "POST", link.PathRegister, link.Registration{Cluster: "prod", Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}})
		var got link.Registered
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != http.StatusOK {
			t.Fatalf("%d %s", code, out)
		}
		node, _ := state.Get[*corev1.Node](s.store.View(), state.Key{Name: "n1"})
		if fmt.Sprint(got.Version) < node.ResourceVersion || state.Version(got.Version) > s.store.View().Version {
			t.Errorf("registered at %d, the node is of version %s, the store at %d", got.Version, node.ResourceVersion, s.store.View().Version)
		}
	}
}
