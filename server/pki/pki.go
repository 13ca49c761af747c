// Package pki is the cluster's own certificate authority: one key pair in the data directory that signs the server's,
// the nodes' and the readers' certificates. It opens no connection. Start at Open.
package pki

import (
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
	"os"
	"path/filepath"
	"sync"
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
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	clock func() time.Time
}

// Identity is whom a certificate names.
type Identity struct {
	Name  string   // CommonName
	Group string   // Organization
	Hosts []string // names and addresses a server is reached by
}

// Open reads the authority in dir, or makes one there: ca.crt and ca.key, readable by the owner only.
func Open(dir string, clock func() time.Time) (*Authority, error) {
	certPath, keyPath := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err == nil {
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("read the cluster's authority: %s is not an ECDSA key", keyPath)
		}
		return &Authority{cert: pair.Leaf, key: key, clock: clock}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the cluster's authority: %w", err)
	}
	return create(dir, clock)
}

func create(dir string, clock func() time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "mainstay"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: clock().Add(-backdate), NotAfter: clock().Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	// The key first: a certificate without its key would stop the next start.
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), keyPEM, 0o600); err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), encodeCert(der), 0o600); err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	return &Authority{cert: cert, key: key, clock: clock}, nil
}

// CertPEM is the authority's certificate, which others trust.
func (a *Authority) CertPEM() []byte { return encodeCert(a.cert.Raw) }

// Pool trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue signs a certificate for a new key, good for client and server use.
func (a *Authority) Issue(id Identity) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate for %s: %w", id.Name, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: id.Name, Organization: []string{id.Group}},
		NotBefore: a.clock().Add(-backdate), NotAfter: a.clock().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, host := range id.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate for %s: %w", id.Name, err)
	}
	keyPEM, err = encodeKey(key)
	return encodeCert(der), keyPEM, err
}

// Renewing returns a source of certificates for id that issues a new one at half of the present one's life.
func (a *Authority) Renewing(id Identity) *Renewing { return &Renewing{authority: a, id: id} }

// Renewing is a certificate that never expires while its process runs. It is safe for concurrent use.
type Renewing struct {
	authority *Authority
	id        Identity

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
}

// Certificate returns the present certificate.
func (r *Renewing) Certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.authority.clock().Before(r.current.Leaf.NotAfter.Add(-leafLife/2)) {
		return r.current, nil
	}
	certPEM, keyPEM, err := r.authority.Issue(r.id)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s: %w", r.id.Name, err)
	}
	r.current = &pair
	return r.current, nil
}

// ServerTLS serves with the present certificate and checks those that clients bring against this authority.
func (r *Renewing) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientCAs:      r.authority.Pool(),
		ClientAuth:     tls.VerifyClientCertIfGiven,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.Certificate() },
		NextProtos:     []string{"h2", "http/1.1"},
	}
}

// ClientTLS presents the present certificate and trusts this authority alone.
func (r *Renewing) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              r.authority.Pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.Certificate() },
	}
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
