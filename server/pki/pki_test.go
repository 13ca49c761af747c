package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

func open(t *testing.T, dir string) *pki.Authority {
	t.Helper()
	a, err := pki.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// handshake connects a client to a server and returns whom the server saw.
func handshake(t *testing.T, server, client *tls.Config) (string, error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	seen := make(chan string, 1)
	go func() {
		defer far.Close()
		conn := tls.Server(far, server)
		name := ""
		if err := conn.Handshake(); err == nil {
			if certs := conn.ConnectionState().PeerCertificates; len(certs) > 0 {
				name = certs[0].Subject.CommonName
			}
		}
		seen <- name
	}()
	conn := tls.Client(near, client)
	err := conn.Handshake()
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3 reports a refused client certificate only here.
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	near.Close()
	return <-seen, err
}

func TestAuthorityIsKeptAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	if a, b := open(t, dir), open(t, dir); string(a.CertPEM()) != string(b.CertPEM()) {
		t.Error("a second start made another authority")
	}
	info, err := os.Stat(filepath.Join(dir, "authority.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("authority.pem has mode %v (%v), want 0600", info.Mode(), err)
	}
}

func TestOnlyCertificatesOfTheClusterAreAccepted(t *testing.T) {
	ours, theirs := open(t, t.TempDir()), open(t, t.TempDir())
	server := ours.Renewing(pki.Identity{Name: "server", Group: pki.GroupServers, Hosts: []string{"127.0.0.1"}}).ServerTLS()
	for name, tc := range map[string]struct {
		authority *pki.Authority
		want      string
	}{
		"ours":   {ours, "n1"},
		"theirs": {theirs, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client := tc.authority.Renewing(pki.Identity{Name: "n1", Group: pki.GroupNodes}).ClientTLS()
			client.ServerName, client.RootCAs = "127.0.0.1", ours.Pool()
			if got, err := handshake(t, server, client); got != tc.want {
				t.Errorf("server saw %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

func TestCertificateIsRenewedAtHalfOfItsLife(t *testing.T) {
	now := time.Now()
	a, err := pki.Open(t.TempDir(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	r := a.Renewing(pki.Identity{Name: "server", Group: pki.GroupServers})
	serial := func() string {
		cert, err := r.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	now = now.Add(44 * 24 * time.Hour)
	if serial() != first {
		t.Error("renewed before half of its life")
	}
	now = now.Add(2 * 24 * time.Hour)
	if serial() == first {
		t.Error("not renewed after half of its life")
	}
}

func TestDamagedAuthorityIsRefusedNotReplaced(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "authority.pem"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(dir, time.Now); err == nil {
		t.Error("a damaged authority was accepted")
	}
}

// leaf is the certificate that somebody shows now.
func leaf(t *testing.T, r *pki.Renewing) *x509.Certificate {
	t.Helper()
	cert, err := r.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}
