package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A rotation has two steps, and each makes another generation of the authority. Next makes a new key that signs from then on;
// the former authority certifies it once (the bridge), and its own key is forgotten. Certificates of both are good then: who
// knows both trusts either, and who knows the former one alone trusts the new one by the bridge, which comes with every
// certificate. So nobody has to be told before somebody else. Last drops the former one.

var (
	// ErrRotating is a rotation that cannot begin, because one is under way.
	ErrRotating = errors.New("the authority is being rotated already: `mainstay ca status` says how far that is, `mainstay ca finish` ends it")
	// ErrNotRotating is a rotation that cannot end, because there is none.
	ErrNotRotating = errors.New("the authority is not being rotated: `mainstay ca rotate` begins that")
)

// Next is the authority's successor, as CertPEM and KeyPEM would return it. This one stays as it is.
func (a *Authority) Next() (certPEM, keyPEM []byte, err error) {
	now := a.now.Load()
	if now.former != nil {
		return nil, nil, ErrRotating
	}
	next, err := newMaterial(a.clock())
	if err != nil {
		return nil, nil, err
	}
	next.generation, next.former, next.past = now.generation+1, now.cert, now.past
	if next.bridge, err = certifyAuthority(next.cert, now); err != nil {
		return nil, nil, fmt.Errorf("rotate the cluster's authority: %w", err)
	}
	return exported(next)
}

// Last is the authority once its former one is trusted no more, as CertPEM and KeyPEM would return it.
func (a *Authority) Last() (certPEM, keyPEM []byte, err error) {
	now := a.now.Load()
	if now.former == nil {
		return nil, nil, ErrNotRotating
	}
	past := append(slices.Clone(now.past), pinOf(now.former))
	return exported(&material{generation: now.generation + 1, cert: now.cert, key: now.key, past: past})
}

// First is the authority as the first one that a store knows of.
func (a *Authority) First() (certPEM, keyPEM []byte, err error) {
	first := *a.now.Load()
	first.generation = max(first.generation, 1)
	return exported(&first)
}

// Export is CertPEM and KeyPEM of one and the same moment.
func (a *Authority) Export() (certPEM, keyPEM []byte, err error) { return exported(a.now.Load()) }

func exported(m *material) (certPEM, keyPEM []byte, err error) {
	key, err := m.keyPEM()
	return m.certPEM(), key, err
}

// Adopt makes this authority what Next, Last or First returned elsewhere, and keeps it. One that is not newer changes nothing:
// a log that is being replayed shows what was, too.
func (a *Authority) Adopt(certPEM, keyPEM []byte) (news bool, err error) {
	next, err := parse(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("adopt the cluster's authority: %w", err)
	}
	a.adopting.Lock()
	defer a.adopting.Unlock()
	if next.generation <= a.now.Load().generation {
		return false, nil
	}
	if err := next.keep(a.dir); err != nil {
		return false, fmt.Errorf("adopt the cluster's authority: %w", err)
	}
	a.now.Store(next)
	return true, nil
}

// Former is the pin of the authority that this one replaces; "" unless a rotation is under way.
func (a *Authority) Former() string {
	if former := a.now.Load().former; former != nil {
		return pinOf(former)
	}
	return ""
}

// Knows reports whether a pin is this authority's, or that of one before it.
func (a *Authority) Knows(pin string) bool {
	return pin == a.Pin() || pin == a.Former() || slices.Contains(a.now.Load().past, pin)
}

// Signed reports whether this authority signed a certificate, and not its former one.
func (a *Authority) Signed(leaf *x509.Certificate) bool {
	return leaf.CheckSignatureFrom(a.now.Load().cert) == nil
}

// newMaterial draws an authority. Its name tells it apart from others for who looks at a chain.
func newMaterial(now time.Time) (*material, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	sum := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "mainstay " + Short(pinEncoding.EncodeToString(sum[:]))},
		IsCA: true, BasicConstraintsValid: true, NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := signed(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	return &material{cert: cert, key: key}, nil
}

// certifyAuthority is cert as signed by the authority before it, for as long as that lasts.
func certifyAuthority(cert *x509.Certificate, by *material) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: cert.Subject, IsCA: true, BasicConstraintsValid: true,
		NotBefore: cert.NotBefore, NotAfter: by.cert.NotAfter, KeyUsage: cert.KeyUsage,
	}
	return signed(template, by.cert, cert.PublicKey, by.key)
}

func signed(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
