package pki

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/durable"
)

// requestBlock is the PEM type of a certificate request.
const requestBlock = "CERTIFICATE REQUEST"

// ErrRequest is a certificate request that is none, or is not signed by its own key.
var ErrRequest = errors.New("the certificate request is not valid")

const (
	identityFile  = "identity.pem" // key and certificate in one file, so that they are replaced together
	authorityFile = "ca.crt"
)

// Held is a certificate that an authority elsewhere has signed, kept in a directory. It is safe for concurrent use.
type Held struct {
	credentials
	dir  string
	told chan struct{} // capacity 1: another mark was told

	mu      sync.Mutex
	current *tls.Certificate    // guarded by mu
	caPEM   []byte              // guarded by mu
	roots   []*x509.Certificate // what caPEM holds; guarded by mu
	wanted  string              // the mark that servers told last; guarded by mu
	settled string              // the mark that servers know to be this one's; guarded by mu
}

// Request makes a key and a request to certify it; whom for is the authority's say.
func Request() (requestPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "mainstay"}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	keyPEM, err = encodeKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der}), keyPEM, err
}

// Hold keeps in dir a certificate just signed, with its key and the authority's certificates, as TrustPEM returned them.
func Hold(dir string, certPEM, keyPEM, caPEM []byte) (*Held, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the certificate: %w", err)
	}
	h := newHeld(dir)
	return h, h.replace(certPEM, keyPEM, caPEM)
}

// OpenHeld reads what Hold has kept in dir. The error is fs.ErrNotExist if nothing is.
func OpenHeld(dir string) (*Held, error) {
	caPEM, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	h := newHeld(dir)
	if h.roots, err = parseTrust(caPEM); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, authorityFile), err)
	}
	both, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		return nil, fmt.Errorf("read the certificate in %s: %w", filepath.Join(dir, identityFile), err)
	}
	h.current, h.caPEM = &pair, caPEM
	return h, nil
}

func newHeld(dir string) *Held {
	h := &Held{dir: dir, told: make(chan struct{}, 1)}
	h.credentials = credentials{trusted: h.authorities, present: h.Certificate}
	return h
}

// parseTrust reads what TrustPEM returned.
func parseTrust(caPEM []byte) (certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(caPEM); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the authority's certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no certificate of an authority in it")
	}
	return certs, nil
}

// replace keeps another certificate, and presents it from now on. Whom to trust is kept first: a certificate of an authority
// that is not known would be of no use. An empty caPEM changes nothing of that.
func (h *Held) replace(certPEM, keyPEM, caPEM []byte) error {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("the certificate that was signed is not for this key: %w", err)
	}
	if len(caPEM) > 0 {
		if err := h.trust(caPEM); err != nil {
			return err
		}
	}
	if err := durable.ReplaceFile(filepath.Join(h.dir, identityFile), append(append([]byte{}, keyPEM...), certPEM...)); err != nil {
		return fmt.Errorf("keep the certificate: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = &pair
	return nil
}

func (h *Held) trust(caPEM []byte) error {
	roots, err := parseTrust(caPEM)
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if bytes.Equal(caPEM, h.caPEM) {
		return nil
	}
	if err := durable.ReplaceFile(filepath.Join(h.dir, authorityFile), caPEM); err != nil {
		return fmt.Errorf("keep the authority's certificate: %w", err)
	}
	h.caPEM, h.roots = caPEM, roots
	return nil
}

func (h *Held) authorities() []*x509.Certificate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roots
}

// Mark is that of the authority whose certificates are trusted here, if it also signed the present certificate; else "".
func (h *Held) Mark() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current.Leaf.CheckSignatureFrom(h.roots[0]) != nil {
		return ""
	}
	return markOf(h.caPEM)
}

// Told takes in the mark of the authority that servers have now, as often as they tell it; "" says nothing.
func (h *Held) Told(mark string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wanted = mark; mark == "" || mark == h.settled {
		return
	}
	select {
	case h.told <- struct{}{}:
	default:
	}
}

// Certificate returns the present certificate, expired or not.
func (h *Held) Certificate() (*tls.Certificate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current, nil
}

// leaf is what the present certificate says.
func (h *Held) leaf() *x509.Certificate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current.Leaf
}

// Name is whom the certificate names.
func (h *Held) Name() string { return h.leaf().Subject.CommonName }

// Expires is when the certificate ceases to be good.
func (h *Held) Expires() time.Time { return h.leaf().NotAfter }

// Retries of a renewal: as often as a tenth of what is left allows, within these bounds.
const (
	renewSoonest = time.Second
	renewLatest  = time.Hour
)

// Issuer is who signs certificates and keeps track of who moved to another authority. Both ask over a network.
type Issuer struct {
	// Sign returns the certificate for a request, and whom to trust from now on; nothing of that: as before.
	Sign func(ctx context.Context, requestPEM []byte) (certPEM, caPEM []byte, err error)
	// Confirm tells that the authority with this mark is trusted here, and signed the certificate.
	Confirm func(ctx context.Context, mark string) error
}

// Renew has the certificate signed anew, at half of its life and whenever another authority is told of, until ctx ends. While
// that fails the certificate in hand stays, and once that has expired Renew says in the log what to do.
func (h *Held) Renew(ctx context.Context, issuer Issuer, log *slog.Logger) error {
	for {
		next, err := h.step(ctx, issuer, log)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			next = min(max(time.Until(h.Expires())/10, renewSoonest), renewLatest)
			h.complain(log, err, next)
		}
		select {
		case <-time.After(next):
		case <-h.told:
		case <-ctx.Done():
			return nil
		}
	}
}

// step does what is due, and returns how long nothing more will be.
func (h *Held) step(ctx context.Context, issuer Issuer, log *slog.Logger) (time.Duration, error) {
	wanted, settled := h.due()
	if wanted != settled && wanted != h.Mark() || time.Until(HalfLife(h.leaf())) <= 0 {
		if err := h.renewOnce(ctx, issuer); err != nil {
			return 0, err
		}
		log.Info("certificate renewed", "expires", h.Expires(), "authority", h.authorities()[0].Subject.CommonName)
	}
	if mark := h.Mark(); wanted != settled && wanted == mark { // else the server that signed has yet to hear of it
		if err := issuer.Confirm(ctx, mark); err != nil {
			return 0, err
		}
		h.mu.Lock()
		h.settled = mark
		h.mu.Unlock()
	}
	return time.Until(HalfLife(h.leaf())), nil
}

// due is the mark that servers told, and the one they know to be this one's.
func (h *Held) due() (wanted, settled string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return cmp.Or(h.wanted, h.settled), h.settled
}

func (h *Held) renewOnce(ctx context.Context, issuer Issuer) error {
	requestPEM, keyPEM, err := Request()
	if err != nil {
		return err
	}
	certPEM, caPEM, err := issuer.Sign(ctx, requestPEM)
	if err != nil {
		return err
	}
	return h.replace(certPEM, keyPEM, caPEM)
}

// complain says what a failed renewal means.
func (h *Held) complain(log *slog.Logger, err error, again time.Duration) {
	if time.Now().Before(h.Expires()) {
		log.Warn("the certificate is not renewed yet: trying again", "err", err, "in", again, "expires", h.Expires())
		return
	}
	log.Error(Expired, "err", err, "expired", h.Expires())
}

// Expired says what to do about a node whose certificate was not renewed in time.
const Expired = "this node's certificate has expired, so no server listens to it; its containers keep running. " +
	"Make a token on a server (mainstay token create --role agent) and start the agent with --token"

// Trusts reports whether the authority with this pin is trusted here.
func (h *Held) Trusts(pin string) bool {
	return slices.ContainsFunc(h.authorities(), func(cert *x509.Certificate) bool { return pinOf(cert) == pin })
}
