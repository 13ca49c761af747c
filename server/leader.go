package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mainstay-cluster/mainstay/plan"
)

const (
	// leaderWait is how long a request waits for somebody to lead: most elections are over by then.
	leaderWait = time.Second
	// leaderless is how long this server may hear of no leader before it takes what it has for out of date. No election that
	// succeeds takes that long.
	leaderless = 5 * time.Second
	// readAgain is how long a read waits before it asks a leader again that does not know yet that it is one.
	readAgain = 50 * time.Millisecond
	// peerPing finds a server that vanished without closing the connection, together with peerPong.
	peerPing = 2 * time.Second
	peerPong = 2 * time.Second
)

var (
	errNoLeader  = errors.New("no server leads at this moment, so nothing can be written: trying again is safe. If it lasts, `mainstay status` on a server says which servers do not answer")
	errOtherNews = errors.New("another server leads, or none does any more")
)

// leader says where requests that write go: the address of the server that leads, empty if that is this one. It waits a moment
// for one to.
func (s *server) leader(ctx context.Context) (address string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, leaderWait, errNoLeader)
	defer cancel()
	for {
		news := s.raft.LeaderNews()
		id, address := s.raft.Leader()
		switch {
		case s.store.Leads():
			return "", nil
		case id == s.id:
			if s.begins(ctx, news) {
				return "", nil
			}
		case id != "":
			return address, nil
		case s.raft.Contact() > leaderless:
			return "", errNoLeader
		}
		select {
		case <-news:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// begins waits until this server, which has been elected, takes writes; false if there is news before that.
func (s *server) begins(ctx context.Context, news <-chan struct{}) bool {
	ctx, cancel := withNews(ctx, news)
	defer cancel()
	return s.store.Leading(ctx) == nil
}

// withNews is a context that also ends when there is news of the leader.
func withNews(ctx context.Context, news <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-news:
			cancel(errOtherNews)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// readIndex returns once the store holds every write that was acknowledged before the call. While there is no leader it waits
// for one, until it is clear that the servers that answer are too few.
func (s *server) readIndex(ctx context.Context) error {
	for {
		news := s.raft.LeaderNews()
		index, err := s.askIndex(ctx, news)
		if err == nil {
			_, err = s.store.WaitIndex(ctx, index)
			return err
		}
		if ctx.Err() != nil || s.raft.Contact() > leaderless {
			return s.noQuorum(ctx, err)
		}
		select {
		case <-news:
		case <-time.After(readAgain):
		case <-ctx.Done():
		}
	}
}

func (s *server) askIndex(ctx context.Context, news <-chan struct{}) (uint64, error) {
	ctx, cancel := withNews(ctx, news)
	defer cancel()
	return s.raft.ReadIndex(ctx)
}

// ready says why this server does not know its cluster, or not as it is now. A log that is being replayed shows the Cluster
// long before it shows every Pod, and whoever asks meanwhile would hear that the rest is gone. One that hears of no leader
// any more would keep the nodes that ask it from what others know.
func (s *server) ready() error {
	switch {
	case !s.complete.Load():
		return errors.New("the log is being replayed")
	case plan.LiveCluster(s.store.View()) == nil:
		return errors.New("the cluster is not known yet: the repository has not been read")
	}
	silent := s.raft.Contact()
	if trouble := s.raft.Trouble(); trouble != "" && silent > 0 {
		return fmt.Errorf("this server writes nothing: %s", trouble)
	}
	if silent > leaderless {
		return fmt.Errorf("this server has heard of no leader for %s: it does not reach the others, or they are too few", silent.Round(time.Second))
	}
	return nil
}

// peerTransport reaches the other servers by HTTP, as this server. Whom to trust may have changed from one connection to the next.
func (s *server) peerTransport() http.RoundTripper {
	dial := dialServer(s.self, s.dial)
	return &peerTransport{present: s.authority.Mark, transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, peerPing+peerPong)
			defer cancel()
			return dial(ctx, "h2", address)
		},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     time.Minute,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: peerPing, PingTimeout: peerPong},
	}}
}

// peerTransport keeps no connection that was made with an authority before the present one: the other side would refuse who
// comes by it.
type peerTransport struct {
	transport *http.Transport
	present   func() string
	made      atomic.Pointer[string] // the authority that connections were made with; nil before the first
}

// RoundTrip implements http.RoundTripper.
func (p *peerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	now := p.present()
	if before := p.made.Swap(&now); before != nil && *before != now {
		p.transport.CloseIdleConnections()
	}
	return p.transport.RoundTrip(r)
}
