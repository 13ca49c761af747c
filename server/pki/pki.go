// Package pki is the cluster's own certificate authority: one key pair in the data directory that signs the servers', the
// nodes' and the readers' certificates; and how those who hold one trust each other. It asks nobody for anything: who wants a
// certificate signed elsewhere brings a function that does. Start at Open for who signs, at OpenHeld for who is signed for.
package pki

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Groups say what the bearer of a certificate may do; they stand in its Organization.
const (
	GroupViewers = "mainstay:viewers" // read everything but values of Secrets
	GroupNodes   = "mainstay:nodes"   // the node endpoints, for the node named by the CommonName
	GroupServers = "mainstay:servers" // what servers ask of agents
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	// backdate lets a machine whose clock is behind use a certificate at once.
	backdate = time.Hour
)

// Authority signs certificates. It is safe for concurrent use.
type Authority struct {
	dir   string
	clock func() time.Time
	// Life is that of the certificates it signs; 0 is 90 days. It is set before first use.
	Life time.Duration

	adopting sync.Mutex // so that what is kept is what is in force
	now      atomic.Pointer[material]
	marked   atomic.Pointer[marked] // every poll of every agent asks for the mark; nil until the first does
}

// marked is the mark of material.
type marked struct {
	of   *material
	mark string
}

func newAuthority(dir string, m *material, clock func() time.Time) *Authority {
	a := &Authority{dir: dir, clock: clock}
	a.now.Store(m)
	return a
}

// Identity is whom a certificate names.
type Identity struct {
	Name  string   // CommonName
	Group string   // Organization
	Hosts []string // names and addresses it is reached by
	// Machine tells apart machines that have the name in turn; it stands in the subject's SerialNumber. Empty: nothing does.
	Machine string
}

// Open reads the authority in dir, or makes one there: authority.pem, readable by the owner only.
func Open(dir string, clock func() time.Time) (*Authority, error) {
	m, err := load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = loadApart(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir, clock)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's authority: %w", err)
	}
	return newAuthority(dir, m, clock), nil
}

func create(dir string, clock func() time.Time) (*Authority, error) {
	m, err := newMaterial(clock())
	if err != nil {
		return nil, err
	}
	if err := m.keep(dir); err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	return newAuthority(dir, m, clock), nil
}

// CertPEM is all of the authority's certificates, for other servers and for backups: the one that signs and, during a rotation,
// the bridge and the former one's.
func (a *Authority) CertPEM() []byte { return a.now.Load().certPEM() }

// KeyPEM is the authority's key: who has it is the cluster. It is for other servers and for backups alone.
func (a *Authority) KeyPEM() ([]byte, error) { return a.now.Load().keyPEM() }

// TrustPEM is the certificates that others are to trust, the one that signs first.
func (a *Authority) TrustPEM() []byte { return a.now.Load().trustPEM() }

// Mark names what TrustPEM is now.
func (a *Authority) Mark() string {
	now, known := a.now.Load(), a.marked.Load()
	if known == nil || known.of != now {
		known = &marked{now, markOf(now.trustPEM())}
		a.marked.Store(known)
	}
	return known.mark
}

// Expires is when the certificate that signs ceases to be good.
func (a *Authority) Expires() time.Time { return a.now.Load().cert.NotAfter }

// Pool trusts this authority alone and, during a rotation, the former one.
func (a *Authority) Pool() *x509.CertPool { return poolOf(a.trusted()) }

func (a *Authority) trusted() []*x509.Certificate { return a.now.Load().trusted() }

// Issue signs a certificate for a new key, good for client and server use. During a rotation the bridge comes with it.
func (a *Authority) Issue(id Identity) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate for %s: %w", id.Name, err)
	}
	if certPEM, err = a.now.Load().sign(a.template(id), key.Public()); err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return certPEM, keyPEM, err
}

// Sign signs a certificate for the key in a request. Only the key is taken from it: whom the certificate names is id's say.
// During a rotation the bridge comes with it.
func (a *Authority) Sign(requestPEM []byte, id Identity) (certPEM []byte, err error) {
	block, _ := pem.Decode(requestPEM)
	if block == nil || block.Type != requestBlock {
		return nil, ErrRequest
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		return nil, ErrRequest
	}
	return a.now.Load().sign(a.template(id), request.PublicKey)
}

// template is the certificate that id gets.
func (a *Authority) template(id Identity) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: id.Name, Organization: []string{id.Group}, SerialNumber: id.Machine},
		NotBefore: a.clock().Add(-backdate), NotAfter: a.clock().Add(cmp.Or(a.Life, leafLife)),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, host := range id.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template
}

func (m *material) sign(template *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, m.cert, key, m.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", template.Subject.CommonName, err)
	}
	out := encodeCert(der)
	if m.bridge != nil {
		out = append(out, encodeCert(m.bridge.Raw)...)
	}
	return out, nil
}

// Renewing returns a source of certificates for id that issues a new one at half of the present one's life.
func (a *Authority) Renewing(id Identity) *Renewing {
	r := &Renewing{authority: a, id: id}
	r.credentials = credentials{trusted: a.trusted, present: r.Certificate}
	return r
}

// Renewing is a certificate of one who has the authority at hand: it never expires while its process runs. It is safe for
// concurrent use.
type Renewing struct {
	credentials
	authority *Authority

	mu      sync.Mutex
	id      Identity         // guarded by mu
	current *tls.Certificate // guarded by mu
	by      *material        // what current is signed by; guarded by mu
}

// Certificate returns the present certificate, and the authority's after it: who joins knows those by a digest alone.
func (r *Renewing) Certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.authority.now.Load()
	if r.current != nil && r.by == now && r.authority.clock().Before(HalfLife(r.current.Leaf)) {
		return r.current, nil
	}
	certPEM, keyPEM, err := r.authority.Issue(r.id)
	if err != nil {
		return nil, err
	}
	for _, cert := range now.trusted() {
		certPEM = append(certPEM, encodeCert(cert.Raw)...)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", r.id.Name, err)
	}
	r.current, r.by = &pair, now
	return r.current, nil
}

// Also makes the certificate good for further names and addresses, from the next handshake on.
func (r *Renewing) Also(hosts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id.Hosts = slices.Concat(r.id.Hosts, hosts)
	r.current = nil
}

// HalfLife is when a certificate of this package should be renewed.
func HalfLife(cert *x509.Certificate) time.Time {
	issued := cert.NotBefore.Add(backdate)
	return issued.Add(cert.NotAfter.Sub(issued) / 2)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic("pki: the system has no randomness: " + err.Error())
	}
	return n
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
