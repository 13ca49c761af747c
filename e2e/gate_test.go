package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// moment is one of a request's life.
type moment int

const (
	asked    moment = iota // the engine has not heard of it
	answered               // the engine has done it, and nobody knows
)

// step is a request to an engine that an agent does not survive.
type step struct {
	name   string
	method string
	part   string // of its path and query
	moment moment
	after  int // so many others like it
}

// gate lets requests through to an engine until one comes that is waited for. That one is held, for as long as who asked lives.
type gate struct {
	socket string
	engine http.RoundTripper

	mu      sync.Mutex
	at      *step         // nil: everything is let through; guarded by mu
	reached chan struct{} // closed once at is held; guarded by mu
}

// errHeld is the answer to who asked and is no more.
var errHeld = errors.New("held until the agent was killed")

// newGate makes a gate before the engine that listens on a socket.
func newGate(t *testing.T, engine string) *gate {
	t.Helper()
	g := &gate{socket: filepath.Join(filepath.Dir(engine), "g.sock"), engine: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", engine)
		},
	}}
	listener, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport:     g,
		FlushInterval: -1,                                                                                    // events are wanted when they happen
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }, // as an engine that is gone
	}
	server := &http.Server{Handler: proxy}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return g
}

func (g *gate) dockerHost() string { return "unix://" + g.socket }

// arm makes the gate hold the next request at a step; the channel tells when it does.
func (g *gate) arm(at step) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.reached = &at, make(chan struct{})
	return g.reached
}

// holds says whether a request is the one that is waited for, and if so, what to close and at which moment.
func (g *gate) holds(r *http.Request) (at *step, reached chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.at == nil || r.Method != g.at.method || !strings.Contains(r.URL.RequestURI(), g.at.part) {
		return nil, nil
	}
	if g.at.after > 0 {
		g.at.after--
		return nil, nil
	}
	at, g.at = g.at, nil
	return at, g.reached
}

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	at, reached := g.holds(r)
	if at == nil {
		return g.engine.RoundTrip(r)
	}
	if at.moment == answered {
		response, err := g.engine.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return nil, err
		}
	} else if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that who asked is gone
	}
	close(reached)
	<-r.Context().Done()
	return nil, errHeld
}
