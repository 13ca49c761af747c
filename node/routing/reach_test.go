package routing

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// lan is the hosts that answer.
type lan struct {
	mu     sync.Mutex
	answer map[netip.Addr]bool // guarded by mu
	broken error               // guarded by mu
}

func (l *lan) set(host string, answers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer[netip.MustParseAddr(host)] = answers
}

func (l *lan) ping(ctx context.Context, _ []netip.Addr, wait time.Duration) (map[netip.Addr]bool, error) {
	pause(ctx, wait)
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.answer), l.broken
}

const host2, host3 = "192.0.2.2", "192.0.2.3"

// onNode is slice with an endpoint on a node.
func onNode(name, address, node string) discoveryv1.EndpointSlice {
	s := slice(name, address, name, true)
	s.Endpoints[0].NodeName = &node
	s.Ports = []discoveryv1.EndpointPort{{}}
	return s
}

// among runs a Follower on n1, with n2 and n3, where web has an endpoint each, beside it.
func among(t *testing.T, change func(*link.NetworkResponse), test func(t *testing.T, l *lan, s *server, r *table)) {
	l := &lan{answer: map[netip.Addr]bool{}}
	l.set(host2, true)
	l.set(host3, true)
	routedBy(t, Config{Ping: l.ping}, func(t *testing.T, s *server, _ *Follower, r *table) {
		all := whole(5, onNode("web-2", "10.0.2.2", "n2"), onNode("web-3", "10.0.3.2", "n3"))
		all.Peers = []link.Peer{{Name: "n1", Address: "192.0.2.1"}, {Name: "n2", Address: host2}, {Name: "n3", Address: host3}}
		change(&all)
		s.tell(all)
		r.want(t, "Whole, web=10.0.2.2 up, web=10.0.3.2 up")
		time.Sleep(2*pingEvery + pingEvery/2) // virtual: all have answered, and a round is half over
		test(t, l, s, r)
	})
}

func asTold(*link.NetworkResponse) {}

func TestServicesLeadAroundANodeThatDoesNotAnswer(t *testing.T) {
	among(t, asTold, func(t *testing.T, l *lan, _ *server, r *table) {
		l.set(host2, false)
		time.Sleep((lostAfter - 1) * pingEvery)
		r.want(t)
		time.Sleep(pingEvery)
		r.want(t, "web=10.0.2.2 down, web=10.0.3.2 up")
		l.set(host2, true)
		time.Sleep((backAfter - 1) * pingEvery)
		r.want(t)
		time.Sleep(pingEvery)
		r.want(t, "web=10.0.2.2 up, web=10.0.3.2 up")
	})
}

func TestANodeThatMissesSomeEchoesIsNotLost(t *testing.T) {
	among(t, asTold, func(t *testing.T, l *lan, _ *server, r *table) {
		for range 5 {
			l.set(host2, false)
			time.Sleep((lostAfter - 1) * pingEvery)
			l.set(host2, true)
			time.Sleep(pingEvery)
		}
		r.want(t)
	})
}

// A port keeps its endpoints if all of them are out of reach: that may be this node's own fault.
func TestTheLastEndpointIsNeverTakenAway(t *testing.T) {
	among(t, asTold, func(t *testing.T, l *lan, s *server, r *table) {
		l.set(host2, false)
		l.set(host3, false)
		time.Sleep(lostAfter * pingEvery)
		r.want(t, "web=10.0.2.2 up, web=10.0.3.2 up")
		down := onNode("web-3", "10.0.3.2", "n3")
		no := false
		down.Endpoints[0].Conditions.Ready = &no
		l.set(host3, true)
		s.tell(link.NetworkResponse{Store: "s", Version: 6, EndpointSlices: []discoveryv1.EndpointSlice{down}})
		r.want(t, "web=10.0.2.2 up, web=10.0.3.2 down")
	})
	other := "other"
	among(t, func(all *link.NetworkResponse) { all.EndpointSlices[1].Ports[0].Name = &other }, func(t *testing.T, l *lan, _ *server, r *table) {
		l.set(host2, false)
		time.Sleep(lostAfter * pingEvery)
		r.want(t, "web=10.0.2.2 up, web=10.0.3.2 up") // another port's endpoint is no substitute
	})
}

func TestHeadlessServicesTellEveryEndpoint(t *testing.T) {
	headless := func(all *link.NetworkResponse) { all.Services[0].Spec.ClusterIP = corev1.ClusterIPNone }
	among(t, headless, func(t *testing.T, l *lan, _ *server, r *table) {
		l.set(host2, false)
		time.Sleep(lostAfter * pingEvery)
		r.want(t, "web=10.0.2.2 up, web=10.0.3.2 up")
	})
}

// A node that never answered may be behind a firewall, and one that has another address now is another.
func TestOnlyWhoAnsweredBeforeIsLost(t *testing.T) {
	among(t, asTold, func(t *testing.T, l *lan, s *server, r *table) {
		l.set(host2, false)
		time.Sleep(lostAfter * pingEvery)
		r.want(t, "web=10.0.2.2 down, web=10.0.3.2 up")
		s.tell(link.NetworkResponse{Store: "s", Version: 6, Peers: []link.Peer{{Name: "n2", Address: "192.0.2.9"}}})
		r.want(t, "Peers")
		time.Sleep(2 * pingEvery)
		r.want(t, "web=10.0.2.2 up, web=10.0.3.2 up")
		time.Sleep(time.Minute)
		r.want(t)
	})
}

func TestRoundsThatFailSayNothing(t *testing.T) {
	among(t, asTold, func(t *testing.T, l *lan, _ *server, r *table) {
		l.mu.Lock()
		l.broken = errors.New("no socket")
		l.mu.Unlock()
		l.set(host2, false)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want(t)
	})
}
