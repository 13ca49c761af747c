package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

var (
	// ErrPin is a server of another cluster, or somebody in its place.
	ErrPin = errors.New("the server is not of the cluster that the token is for: nothing was sent to it. Check the address that was given (--server, or --join), or make a token on a server of the cluster you mean: mainstay token create. A token that was made before the cluster's authority was rotated is good no more")
	// errNotServer is somebody else, perhaps a member of the cluster, in the place of one of its servers.
	errNotServer = errors.New("the certificate at the other end is not that of a server of this cluster")
)

// pinEncoding is short, and needs no quoting anywhere.
var pinEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Pin is the digest of the authority's public key, by which one who has nothing else yet recognises the cluster.
func (a *Authority) Pin() string { return pinOf(a.now.Load().cert) }

// Short is the part of a pin by which people tell one from another.
func Short(pin string) string { return pin[:min(len(pin), 8)] }

// markOf names a bundle of certificates.
func markOf(trustPEM []byte) string {
	sum := sha256.Sum256(trustPEM)
	return pinEncoding.EncodeToString(sum[:10])
}

func pinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinEncoding.EncodeToString(sum[:])
}

// NodeHost is the name in a node's certificate by which servers recognise it, whatever address it is reached at. No server has
// such a name, so no node can pass for one.
func NodeHost(node string) string { return node + ".node.mainstay" }

// credentials is what one side of a connection shows and trusts.
type credentials struct {
	trusted func() []*x509.Certificate // the authority that signs now first
	present func() (*tls.Certificate, error)
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}

// Worth is what a connection is worth that was made with a certificate some time ago.
type Worth int

const (
	// WorthAll is that of one that would be made alike today.
	WorthAll Worth = iota
	// WorthRenewing is that of one whose certificate should have been replaced by now: another is made with a better one.
	WorthRenewing
	// WorthNothing is that of one whose certificate nobody accepts any more.
	WorthNothing
)

// Worth judges a connection by the chain that was verified when it was made.
func (c credentials) Worth(chain []*x509.Certificate, now time.Time) Worth {
	by := slices.IndexFunc(c.trusted(), func(authority *x509.Certificate) bool {
		return len(chain) > 1 && bytes.Equal(chain[1].RawSubjectPublicKeyInfo, authority.RawSubjectPublicKeyInfo)
	})
	switch {
	case by < 0 || now.After(chain[0].NotAfter):
		return WorthNothing
	case by > 0 || now.After(HalfLife(chain[0])):
		return WorthRenewing
	}
	return WorthAll
}

// ServerTLS serves with the present certificate and checks those that clients bring against the cluster's authority.
func (c credentials) ServerTLS() *tls.Config { return c.serving(&tls.Config{}) }

// ServerTLSWith is ServerTLS that speaks further protocols, too, with servers alone to which admit, given their name, does not
// object: the handshake of anybody else who asks for one fails.
func (c credentials) ServerTLSWith(admit func(name string) error, protocols ...string) *tls.Config {
	return c.serving(&tls.Config{NextProtos: protocols, VerifyConnection: func(state tls.ConnectionState) error {
		switch {
		case !slices.Contains(protocols, state.NegotiatedProtocol):
			return nil
		case len(state.VerifiedChains) == 0:
			return errNotServer
		}
		if err := isServer(state.PeerCertificates[0]); err != nil {
			return err
		}
		return admit(state.PeerCertificates[0].Subject.CommonName)
	}})
}

// serving completes config. Each handshake trusts what is trusted when it begins.
func (c credentials) serving(config *tls.Config) *tls.Config {
	config.MinVersion = tls.VersionTLS13
	config.ClientAuth = tls.VerifyClientCertIfGiven
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.present() }
	config.NextProtos = append([]string{"h2", "http/1.1"}, config.NextProtos...)
	config.SessionTicketsDisabled = true // one would carry the trust of yesterday
	following := config.Clone()
	following.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := config.Clone()
		now.ClientCAs = poolOf(c.trusted())
		return now, nil
	}
	return following
}

// ClientTLS presents the present certificate and trusts the cluster's authority alone, as it is now: what lives on makes
// another for each connection.
func (c credentials) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              poolOf(c.trusted()),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.present() },
	}
}

// ToServers is ClientTLS for who means to speak to a server: no node, though the authority signed for it, passes for one.
func (c credentials) ToServers() *tls.Config {
	config := c.ClientTLS()
	config.VerifyConnection = func(state tls.ConnectionState) error { return isServer(state.PeerCertificates[0]) }
	return config
}

func isServer(cert *x509.Certificate) error {
	if !slices.Contains(cert.Subject.Organization, GroupServers) {
		return errNotServer
	}
	return nil
}

// DialPinned connects to a server of the cluster whose authority has this pin, knowing nothing else of it: the authority's
// certificate must come with the server's own, which must be signed by it and name the address that was dialled.
func DialPinned(pin string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		dialer := tls.Dialer{Config: &tls.Config{
			MinVersion: tls.VersionTLS13, ServerName: host, NextProtos: []string{"http/1.1"},
			InsecureSkipVerify: true, // VerifyConnection does, against the pin: there are no roots yet
			VerifyConnection:   func(state tls.ConnectionState) error { return verifyPinned(pin, host, state.PeerCertificates) },
		}}
		return dialer.DialContext(ctx, network, address)
	}
}

// verifyPinned checks a chain that a server presented.
func verifyPinned(pin, host string, chain []*x509.Certificate) error {
	roots, bridges := x509.NewCertPool(), poolOf(chain[1:])
	found := false
	for _, cert := range chain {
		if cert.IsCA && subtle.ConstantTimeCompare([]byte(pinOf(cert)), []byte(pin)) == 1 {
			roots.AddCert(cert)
			found = true
		}
	}
	if !found {
		return ErrPin
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: bridges, DNSName: host}); err != nil {
		return err
	}
	return isServer(chain[0])
}
