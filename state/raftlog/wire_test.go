package raftlog

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

// wire is the network between the servers of a test: TLS over TCP on loopback, as the servers' one port is.
type wire struct {
	authority *pki.Authority
	refused   chan string // the addresses of those who dialled in vain, as far as there is room

	mu    sync.Mutex
	ports map[string]net.Listener      // by address; guarded by mu
	mute  map[string]chan struct{}     // addresses that let everybody wait until it is closed; guarded by mu
	cut   map[string]bool              // addresses that nobody reaches and that reach nobody; guarded by mu
	conns map[net.Conn]map[string]bool // which addresses a connection joins; guarded by mu
}

func newWire(t testing.TB) *wire {
	t.Helper()
	authority, err := pki.Open(filepath.Join(t.TempDir(), "pki"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &wire{authority: authority, refused: make(chan string, 1000), ports: map[string]net.Listener{}, mute: map[string]chan struct{}{}, cut: map[string]bool{}, conns: map[net.Conn]map[string]bool{}}
}

// join gives a server its port and its streams.
func (w *wire) join(t testing.TB, id string) *Streams {
	t.Helper()
	return w.joinAt(t, id, "127.0.0.1:0")
}

// joinAt gives a server that had a port the same one again.
func (w *wire) joinAt(t testing.TB, id, address string) *Streams {
	t.Helper()
	w.mu.Lock()
	if port, ok := w.ports[address]; ok {
		_ = port.Close()
	}
	w.mu.Unlock()
	self := w.authority.Renewing(pki.Identity{Name: id, Group: pki.GroupServers, Hosts: []string{"127.0.0.1"}})
	listener, err := tls.Listen("tcp", address, self.ServerTLSWith(func(string) error { return nil }, Protocols()...))
	if err != nil {
		t.Fatal(err)
	}
	at := listener.Addr().String()
	w.mu.Lock()
	w.ports[at] = listener
	w.mu.Unlock()
	streams := NewStreams(at, func(ctx context.Context, protocol, address string) (net.Conn, error) {
		config := self.ToServers()
		config.NextProtos = []string{protocol}
		return w.dial(ctx, config, at, address)
	})
	var owned sync.WaitGroup
	owned.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			owned.Go(func() {
				secure := conn.(*tls.Conn)
				if secure.HandshakeContext(t.Context()) == nil {
					streams.Take(secure.ConnectionState().NegotiatedProtocol, conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		_ = layer{streams}.Close()
		owned.Wait()
	})
	return streams
}

func (w *wire) dial(ctx context.Context, config *tls.Config, from, to string) (net.Conn, error) {
	w.mu.Lock()
	mute := w.mute[to]
	w.mu.Unlock()
	if mute != nil {
		select {
		case <-mute:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[from] || w.cut[to] {
		select {
		case w.refused <- from:
		default:
		}
		return nil, errors.Join(errors.New("cut off"), conn.Close())
	}
	w.conns[conn] = map[string]bool{from: true, to: true}
	return conn, nil
}

// isolate cuts a server off from all the others, in both directions.
func (w *wire) isolate(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[address] = true
	for conn, ends := range w.conns {
		if ends[address] {
			_ = conn.Close()
			delete(w.conns, conn)
		}
	}
}

// heal lets everybody reach everybody again.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
}
