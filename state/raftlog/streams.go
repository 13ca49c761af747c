package raftlog

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// What servers say in ALPN, so that one TLS port serves the log beside HTTP.
const (
	RaftProtocol = "mainstay-raft/1"
	AskProtocol  = "mainstay-ask/1" // questions about the log: one JSON object each way
)

// Protocols lists what Take understands.
func Protocols() []string { return []string{RaftProtocol, AskProtocol} }

// Dial connects to the server at address, host:port, by one of Protocols. It must make sure that a server of this cluster is
// at the other end.
type Dial func(ctx context.Context, protocol, address string) (net.Conn, error)

// Streams are the connections between this server and the others. It listens on nothing: whoever owns the port hands over, by
// Take, the connections that speak one of Protocols. It is safe for concurrent use; Log.Close ends every connection.
type Streams struct {
	address  peerAddress
	dial     Dial
	incoming chan net.Conn // for raft
	asking   chan net.Conn // for questions
	closing  context.Context
	close    context.CancelCauseFunc

	mu   sync.Mutex
	open map[*stream]struct{} // nil once closed; guarded by mu
}

// errStreamsClosed is why nothing is dialled or taken any more.
var errStreamsClosed = errors.New("this server's log is closed")

// NewStreams makes the connections of a server that others reach at address, host:port.
func NewStreams(address string, dial Dial) *Streams {
	s := &Streams{address: peerAddress(address), dial: dial, incoming: make(chan net.Conn), asking: make(chan net.Conn), open: map[*stream]struct{}{}}
	s.closing, s.close = context.WithCancelCause(context.Background())
	return s
}

// Take hands over a connection from another server that speaks protocol. The caller has checked its certificate. Take
// returns once the log has the connection, or has closed it.
func (s *Streams) Take(protocol string, conn net.Conn) {
	kept, err := s.keep(conn)
	if err != nil {
		return
	}
	to := s.incoming
	if protocol == AskProtocol {
		to = s.asking
	}
	select {
	case to <- kept:
	case <-s.closing.Done(): // Close closes what is kept
	}
}

// layer is Streams as raft's transport sees them.
type layer struct{ *Streams }

// Accept implements net.Listener.
func (l layer) Accept() (net.Conn, error) {
	select {
	case conn := <-l.incoming:
		return conn, nil
	case <-l.closing.Done():
		return nil, errStreamsClosed
	}
}

// Dial implements raft.StreamLayer.
func (l layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.closing, timeout)
	defer cancel()
	return l.connect(ctx, RaftProtocol, string(address))
}

func (s *Streams) connect(ctx context.Context, protocol, address string) (net.Conn, error) {
	conn, err := s.dial(ctx, protocol, address)
	if err != nil {
		return nil, err
	}
	return s.keep(conn)
}

// Addr implements net.Listener: it is where the others dial, not where this process listens.
func (l layer) Addr() net.Addr { return l.address }

// Close implements net.Listener. It also ends the connections that were taken: raft forgets those.
func (l layer) Close() error {
	l.close(errStreamsClosed)
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for conn := range open {
		_ = conn.Conn.Close()
	}
	return nil
}

// keep remembers a connection until it is closed. The error says that these streams are.
func (s *Streams) keep(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		_ = conn.Close()
		return nil, errStreamsClosed
	}
	kept := &stream{Conn: conn, of: s}
	s.open[kept] = struct{}{}
	return kept, nil
}

// Sift ends the connections that keep does not want kept; raft makes others in their place. It is given what Dial returned, or
// Take was given.
func (s *Streams) Sift(keep func(net.Conn) bool) {
	s.mu.Lock()
	var unwanted []net.Conn
	for conn := range s.open {
		if !keep(conn.Conn) {
			unwanted = append(unwanted, conn)
		}
	}
	s.mu.Unlock()
	for _, conn := range unwanted {
		_ = conn.Close() // it is of no more use, whatever Close says
	}
}

// stream is a connection that is forgotten once it is closed.
type stream struct {
	net.Conn
	of *Streams
}

// Close implements net.Conn.
func (c *stream) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// peerAddress is a host:port that may be a name: it is for others to look up.
type peerAddress string

// Network implements net.Addr.
func (peerAddress) Network() string { return "tcp" }

// String implements net.Addr.
func (a peerAddress) String() string { return string(a) }

const (
	// rpcTimeout is how long another server may take to answer raft, its disk included; a snapshot gets it per 256 KiB.
	rpcTimeout = 10 * time.Second
	// pooledStreams is how many idle connections are kept per server: one for heartbeats, one for entries, one for votes.
	pooledStreams = 3
)

// transport is how raft reaches the others; without streams it reaches nobody.
func transport(cfg Config) raft.Transport {
	if cfg.Streams == nil {
		_, alone := raft.NewInmemTransport(raft.ServerAddress(cfg.ID))
		return alone
	}
	return newBallots(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer{cfg.Streams}, MaxPool: pooledStreams, Timeout: rpcTimeout, Logger: raftLogger(cfg.Log),
	}))
}
