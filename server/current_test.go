package server

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

var fine = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })

// A connection may outlive the certificate that it was made with.
func TestConnectionIsWorthItsCertificate(t *testing.T) {
	day := 24 * time.Hour
	authority, err := pki.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	self := authority.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers})
	issuer, _ := pem.Decode(authority.CertPEM())
	by, err := x509.ParseCertificate(issuer.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		group string
		age   time.Duration // of 90 days
		code  int
		close string
	}{
		"a young node":                 {pki.GroupNodes, day, 204, ""},
		"a node due for renewal":       {pki.GroupNodes, 46 * day, 204, "close"},
		"a node too late":              {pki.GroupNodes, 91 * day, 401, "close"},
		"a viewer, who renews nothing": {pki.GroupViewers, 46 * day, 204, ""},
		"a viewer too late":            {pki.GroupViewers, 91 * day, 401, "close"},
	} {
		t.Run(name, func(t *testing.T) {
			issued := time.Now().Add(-tc.age)
			leaf := &x509.Certificate{Subject: pkix.Name{Organization: []string{tc.group}}, NotBefore: issued, NotAfter: issued.Add(90 * day)}
			r := httptest.NewRequest("GET", "/", nil)
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, by}}}
			w := httptest.NewRecorder()
			current(fine, self.Worth).ServeHTTP(w, r)
			if w.Code != tc.code || w.Header().Get("Connection") != tc.close {
				t.Errorf("%d, connection %q, want %d, %q", w.Code, w.Header().Get("Connection"), tc.code, tc.close)
			}
		})
	}
}

// Over HTTP/2, where many requests share a connection, one of a node that should renew is ended after each answer.
func TestNodesDueForRenewalConnectAnew(t *testing.T) {
	for name, tc := range map[string]struct {
		issued time.Duration // ago
		reused bool
	}{"young": {0, true}, "due": {46 * 24 * time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			now, config := nodeSince(t, time.Now().Add(-tc.issued))
			at := answering(t, now.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: []string{"127.0.0.1"}}))
			client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: config}}
			defer client.CloseIdleConnections()
			reused := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
			for range 2 {
				req, _ := http.NewRequestWithContext(ctx, "GET", at, nil)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.ProtoMajor != 2 {
					t.Fatalf("%s, want HTTP/2", resp.Proto)
				}
			}
			if reused != tc.reused {
				t.Errorf("the second request used the first one's connection: %t, want %t", reused, tc.reused)
			}
		})
	}
}

// nodeSince is an authority, and a node whose certificate it signed then.
func nodeSince(t *testing.T, then time.Time) (*pki.Authority, *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	young, err := pki.Open(dir, func() time.Time { return then })
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := young.Issue(pki.Identity{Name: "n1", Group: pki.GroupNodes})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	now, err := pki.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return now, &tls.Config{RootCAs: now.Pool(), Certificates: []tls.Certificate{pair}}
}

// answering serves over TLS until the test ends.
func answering(t *testing.T, self *pki.Renewing) (at string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	web := &http.Server{Handler: current(fine, self.Worth), TLSConfig: self.ServerTLS()}
	g.Go(func() error { return serveTLS(t.Context(), web, listener, slog.New(slog.DiscardHandler)) })
	t.Cleanup(func() {
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	return "https://" + listener.Addr().String()
}
