package pki_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

// hold has an authority sign for a node, as joining does.
func hold(t *testing.T, a *pki.Authority, dir string) *pki.Held {
	t.Helper()
	request, key, err := pki.Request()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Sign(request, node)
	if err != nil {
		t.Fatal(err)
	}
	held, err := pki.Hold(dir, cert, key, a.TrustPEM())
	if err != nil {
		t.Fatal(err)
	}
	return held
}

var node = pki.Identity{Name: "n1", Group: pki.GroupNodes, Hosts: []string{pki.NodeHost("n1")}}

// A certificate with a life of ten minutes is renewed after five; when nobody signs, the log says so, and after its end what
// to do.
func TestHeldCertificateRenewsAtHalfOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := open(t, dir)
		a.Life = 10 * time.Minute
		held := hold(t, a, filepath.Join(dir, "identity"))
		first := held.Expires()
		var log bytes.Buffer
		var silent atomic.Bool
		sign := func(_ context.Context, request []byte) ([]byte, []byte, error) {
			if silent.Load() {
				return nil, nil, errors.New("no server answers")
			}
			cert, err := a.Sign(request, node)
			return cert, nil, err
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- held.Renew(ctx, pki.Issuer{Sign: sign}, slog.New(slog.NewTextHandler(&log, nil))) }()
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if !held.Expires().Equal(first) {
			t.Error("renewed before half of its life")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		second := held.Expires()
		if got := second.Sub(first).Round(time.Second); got != 5*time.Minute {
			t.Errorf("the new certificate ends %s after the first, want 5m", got)
		}
		if again, err := pki.OpenHeld(filepath.Join(dir, "identity")); err != nil || !again.Expires().Equal(second) {
			t.Errorf("after a restart it is %v, %v", again.Expires(), err)
		}
		silent.Store(true)
		time.Sleep(time.Until(second) + 2*time.Minute)
		synctest.Wait()
		silent.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !held.Expires().After(time.Now()) {
			t.Error("it was not renewed once somebody signed again")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, want := range []string{"not renewed yet", pki.Expired} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, &log)
			}
		}
	})
}

func TestHeldIdentityIsTheOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	hold(t, open(t, t.TempDir()), dir)
	info, err := os.Stat(filepath.Join(dir, "identity.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("identity.pem has mode %v (%v), want 0600", info.Mode(), err)
	}
	if _, err := pki.OpenHeld(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory gives %v", err)
	}
}

// Whatever a request says of itself, the certificate says what the authority means.
func TestRequestIsTakenForItsKeyAlone(t *testing.T) {
	a := open(t, t.TempDir())
	for _, bad := range []string{"", "junk", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", string(a.TrustPEM())} {
		if _, err := a.Sign([]byte(bad), node); !errors.Is(err, pki.ErrRequest) {
			t.Errorf("%.20q: %v, want ErrRequest", bad, err)
		}
	}
}

// listen serves handshakes with a certificate, on loopback.
func listen(t *testing.T, config *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = conn.(*tls.Conn).Handshake(); conn.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestPinnedDialTrustsTheClustersServersAlone(t *testing.T) {
	ours, theirs := open(t, t.TempDir()), open(t, t.TempDir())
	here := []string{"127.0.0.1"}
	// A server of another cluster that shows our authority's certificate as well.
	forged, err := theirs.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: here}).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := ours.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: here}).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	forged.Certificate = append(forged.Certificate[:1], genuine.Certificate[1])
	for name, tc := range map[string]struct {
		server *tls.Config
		want   string // "" is success
	}{
		"ours":           {ours.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: here}).ServerTLS(), ""},
		"another":        {theirs.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: here}).ServerTLS(), "not of the cluster that the token is for"},
		"another's leaf": {&tls.Config{Certificates: []tls.Certificate{*forged}}, "signed by unknown authority"},
		"a node of ours": {ours.Renewing(pki.Identity{Name: "n", Group: pki.GroupNodes, Hosts: here}).ServerTLS(), "not that of a server"},
		"elsewhere":      {ours.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: []string{"192.0.2.1"}}).ServerTLS(), "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := pki.DialPinned(ours.Pin())(t.Context(), "tcp", listen(t, tc.server))
			if err == nil {
				conn.Close()
			}
			if got := errText(err); tc.want == "" && err != nil || !strings.Contains(got, tc.want) {
				t.Errorf("err = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNoNodePassesForAServer(t *testing.T) {
	a := open(t, t.TempDir())
	client := a.Renewing(pki.Identity{Name: "n1", Group: pki.GroupNodes}).ToServers()
	client.ServerName = "127.0.0.1"
	for group, good := range map[string]bool{pki.GroupServers: true, pki.GroupNodes: false, pki.GroupViewers: false} {
		server := a.Renewing(pki.Identity{Name: "x", Group: group, Hosts: []string{"127.0.0.1"}}).ServerTLS()
		if _, err := handshake(t, server, client); (err == nil) != good {
			t.Errorf("one of %s: %v", group, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}
