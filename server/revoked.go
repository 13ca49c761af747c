package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// A server that was removed still has a certificate, and the authority's key. Its name is refused, which ends what a server does
// that is not told so; against one in hostile hands only a rotation of the authority helps.

// revoke notes that a server's certificates are good no more.
func revoke(tx *state.Txn, name string) {
	there, ok := theAuthority(tx)
	if !ok || slices.Contains(there.Spec.Revoked, name) {
		return
	}
	after := there.DeepCopy()
	after.Spec.Revoked = append(after.Spec.Revoked, name)
	tx.Update(after)
}

// mayServe says why a server of that name is none of the cluster's, as far as this one knows.
func (s *server) mayServe(name string) error {
	if there, ok := theAuthority(s.store.View()); ok && slices.Contains(there.Spec.Revoked, name) {
		return errGone
	}
	return nil
}

// unlessRevoked answers nobody with a removed server's certificate.
func (s *server) unlessRevoked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			subject := r.TLS.VerifiedChains[0][0].Subject
			if slices.Contains(subject.Organization, pki.GroupServers) && s.mayServe(subject.CommonName) != nil {
				w.Header().Set("Connection", "close")
				http.Error(w, errGone.Error(), http.StatusGone)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// siftEvery is how often raft's connections are looked at. They live as long as both ends do, and TLS looks at a certificate
// only when one begins.
const siftEvery = 5 * time.Second

// keepSifting has raft's connections outlive no certificate, until ctx ends.
func (s *server) keepSifting(ctx context.Context) error {
	for {
		select {
		case <-time.After(siftEvery):
			s.siftPeers()
		case <-ctx.Done():
			return nil
		}
	}
}

// siftPeers ends raft's connections with servers that were removed, and one of those that would not be made alike now: raft makes
// another, with the certificates of today. All at once would be a silence that may cost a leader its term.
func (s *server) siftPeers() {
	now, replaced := time.Now(), false
	s.peers.Sift(func(conn net.Conn) bool {
		secure, ok := conn.(*tls.Conn)
		if !ok || len(secure.ConnectionState().VerifiedChains) == 0 {
			return true
		}
		chain := secure.ConnectionState().VerifiedChains[0]
		if s.mayServe(chain[0].Subject.CommonName) != nil {
			return false
		}
		if replaced || s.self.Worth(chain, now) == pki.WorthAll {
			return true
		}
		replaced = true
		return false
	})
}
