package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
)

// handshakeTimeout is how long a client may take to begin: as long as it has for the head of a request.
const handshakeTimeout = headTimeout

// onePort serves raft and HTTP on one TLS port. As a net.Listener it brings the connections for HTTP; raft's never pass
// through the HTTP server, which would end them when it stops.
type onePort struct {
	net.Listener
	config *tls.Config // speaks raftlog.Protocols with servers alone
	raft   *raftlog.Streams
	turns  handshakes
	web    chan accepted
	closed chan struct{}
	once   sync.Once
}

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

func newOnePort(listener net.Listener, config *tls.Config, raft *raftlog.Streams) *onePort {
	p := &onePort{Listener: listener, config: config.Clone(), raft: raft, web: make(chan accepted), closed: make(chan struct{})}
	p.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if err := p.takeTurn(hello); err != nil || config.GetConfigForClient == nil {
			return nil, err
		}
		return config.GetConfigForClient(hello)
	}
	return p
}

// arrival is a client in the middle of its handshake.
type arrival struct{ leave func() }

type arrivalKey struct{}

// takeTurn is called when a client has said what it speaks, before that is worked on. Servers need not wait for agents.
func (p *onePort) takeTurn(hello *tls.ClientHelloInfo) error {
	if slices.ContainsFunc(hello.SupportedProtos, func(protocol string) bool { return slices.Contains(raftlog.Protocols(), protocol) }) {
		return nil
	}
	leave, err := p.turns.enter(hello.Context())
	if err == nil {
		hello.Context().Value(arrivalKey{}).(*arrival).leave = leave
	}
	return err
}

// Run sorts connections until the listener is closed or ctx ends.
func (p *onePort) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	defer cancel() // who is in the middle of a handshake then is not waited for
	for {
		conn, err := p.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			p.pass(accepted{err: err}) // the HTTP server knows what to do, and how long to wait
			continue
		}
		handshakes.Go(func() { p.welcome(ctx, tls.Server(conn, p.config)) })
	}
}

// welcome finds out what a client speaks. HTTP gets handshakes that failed, too: it sees the same error, and answers it.
func (p *onePort) welcome(ctx context.Context, conn *tls.Conn) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	client := &arrival{leave: func() {}}
	err := conn.HandshakeContext(context.WithValue(ctx, arrivalKey{}, client))
	client.leave()
	protocol := conn.ConnectionState().NegotiatedProtocol
	if err == nil && slices.Contains(raftlog.Protocols(), protocol) {
		p.raft.Take(protocol, conn)
		return
	}
	p.pass(accepted{conn: conn})
}

func (p *onePort) pass(a accepted) {
	select {
	case p.web <- a:
	case <-p.closed:
		if a.conn != nil {
			_ = a.conn.Close()
		}
	}
}

// Accept implements net.Listener.
func (p *onePort) Accept() (net.Conn, error) {
	select {
	case a := <-p.web:
		return a.conn, a.err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *onePort) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

// serveBoth answers HTTP on listener and hands raft its connections, until ctx ends.
func (s *server) serveBoth(ctx context.Context, listener net.Listener) error {
	port := newOnePort(listener, s.self.ServerTLSWith(s.mayServe, raftlog.Protocols()...), s.peers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return port.Run(ctx) })
	g.Go(func() error { return serveOn(ctx, s.web(), port, s.log) })
	return g.Wait()
}

// dialServer connects to another server of the cluster, for raft.
func dialServer(self *pki.Renewing, dial dialFunc) raftlog.Dial {
	return func(ctx context.Context, protocol, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial server %s: %w", address, err)
		}
		conn, err := dial(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		config := self.ToServers()
		config.NextProtos, config.ServerName = []string{protocol}, host
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("dial server %s: %w", address, err), conn.Close())
		}
		return secure, nil
	}
}

// dial reaches other servers.
func (s *server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s.cfg.wires.dial != nil {
		return s.cfg.wires.dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}
