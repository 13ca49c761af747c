package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/durable"
)

const (
	// keptFile holds an authority whole, so that its certificates and its key are replaced together.
	keptFile = "authority.pem"
	// Above the key's PEM block stand how often the authority has been changed, and the pins of those before it.
	generationHeader = "Generation"
	pastHeader       = "Past"
)

// material is an authority at one time. It is never modified.
type material struct {
	generation uint64 // 0: no store knows of it yet
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
	// bridge is cert's key as the former authority certifies it: who trusts the former one alone trusts by it what cert signs.
	// Both are nil unless a rotation is under way.
	bridge, former *x509.Certificate
	past           []string // pins of those before
}

// parse reads what CertPEM and KeyPEM return.
func parse(certPEM, keyPEM []byte) (*material, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("its key is not an ECDSA key")
	}
	m := &material{cert: pair.Leaf, key: key}
	if err := m.readHeaders(keyPEM); err != nil {
		return nil, err
	}
	switch len(pair.Certificate) {
	case 1:
		return m, nil
	case 3:
		if m.bridge, err = x509.ParseCertificate(pair.Certificate[1]); err != nil {
			return nil, err
		}
		m.former, err = x509.ParseCertificate(pair.Certificate[2])
		return m, err
	}
	return nil, fmt.Errorf("it has %d certificates, not one, or three during a rotation", len(pair.Certificate))
}

// readHeaders finds the key among PEM blocks, and what stands above it.
func (m *material) readHeaders(keyPEM []byte) (err error) {
	for block, rest := pem.Decode(keyPEM); block != nil; block, rest = pem.Decode(rest) {
		if past := block.Headers[pastHeader]; past != "" {
			m.past = strings.Split(past, ",")
		}
		if text := block.Headers[generationHeader]; text != "" {
			m.generation, err = strconv.ParseUint(text, 10, 64)
		}
	}
	return err
}

// trusted are the certificates that others are to trust, the one that signs first.
func (m *material) trusted() []*x509.Certificate {
	if m.former == nil {
		return []*x509.Certificate{m.cert}
	}
	return []*x509.Certificate{m.cert, m.former}
}

func (m *material) trustPEM() (out []byte) {
	for _, cert := range m.trusted() {
		out = append(out, encodeCert(cert.Raw)...)
	}
	return out
}

func (m *material) certPEM() []byte {
	out := encodeCert(m.cert.Raw)
	if m.former != nil {
		out = append(append(out, encodeCert(m.bridge.Raw)...), encodeCert(m.former.Raw)...)
	}
	return out
}

func (m *material) keyPEM() ([]byte, error) {
	plain, err := encodeKey(m.key)
	if err != nil || m.generation == 0 {
		return plain, err
	}
	block, _ := pem.Decode(plain)
	block.Headers = map[string]string{generationHeader: strconv.FormatUint(m.generation, 10)}
	if len(m.past) > 0 {
		block.Headers[pastHeader] = strings.Join(m.past, ",")
	}
	return pem.EncodeToMemory(block), nil
}

// keep writes an authority down.
func (m *material) keep(dir string) error {
	key, err := m.keyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.ReplaceFile(filepath.Join(dir, keptFile), append(m.certPEM(), key...))
}

// load reads what keep wrote. The error is fs.ErrNotExist if it never did.
func load(dir string) (*material, error) {
	both, err := os.ReadFile(filepath.Join(dir, keptFile))
	if err != nil {
		return nil, err
	}
	m, err := parse(both, both)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, keptFile), err)
	}
	return m, nil
}

// Kept says whether there is an authority in dir.
func Kept(dir string) bool {
	for _, name := range []string{keptFile, "ca.crt"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// loadApart reads the two files that authorities were kept in before there was one.
func loadApart(dir string) (*material, error) {
	cert, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("%s has no key beside it: %w", filepath.Join(dir, "ca.crt"), errors.New(err.Error()))
	}
	m, err := parse(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "ca.crt"), err)
	}
	if err := m.keep(dir); err != nil {
		return nil, err
	}
	return m, errors.Join(os.Remove(filepath.Join(dir, "ca.crt")), os.Remove(filepath.Join(dir, "ca.key")))
}

// Install keeps in dir an authority that was made elsewhere, as CertPEM and KeyPEM returned it there.
func Install(dir string, certPEM, keyPEM []byte, clock func() time.Time) (*Authority, error) {
	m, err := parse(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("install the cluster's authority: %w", err)
	}
	if err := m.keep(dir); err != nil {
		return nil, fmt.Errorf("install the cluster's authority: %w", err)
	}
	return newAuthority(dir, m, clock), nil
}
