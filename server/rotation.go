package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// The authority's key is in the store, beside Secrets' values, since all servers need the same one at the same time, also
// those that join later or were away; each keeps a copy in its data directory, for the time before it can read the store.

// theAuthority is the authority as the store has it.
func theAuthority(r state.Reader) (*object.Authority, bool) {
	return state.Get[*object.Authority](r, state.Key{Name: object.AuthorityName})
}

// recordAuthority puts the authority into a store that knows of none.
func (s *server) recordAuthority(ctx context.Context) error {
	if _, ok := theAuthority(s.store.View()); ok {
		return nil
	}
	cert, key, err := s.authority.First()
	if err != nil {
		return err
	}
	_, err = s.store.Update(ctx, func(tx *state.Txn) error {
		if _, ok := theAuthority(tx); !ok {
			tx.Create(&object.Authority{
				ObjectMeta: metav1.ObjectMeta{Name: object.AuthorityName}, Spec: object.AuthoritySpec{Certificates: cert, Key: key},
			})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the cluster's authority: %w", err)
	}
	return nil
}

// followAuthority keeps this server's copy of the authority that of the store, until ctx ends.
func (s *server) followAuthority(ctx context.Context) error {
	feed := state.Changes[*object.Authority](s.store, s.store.View().Version)
	buf := make([]state.Change[*object.Authority], 1)
	for {
		if there, ok := theAuthority(s.store.View()); ok {
			if err := s.adopt(there); err != nil {
				return err
			}
			s.siftPeers()
		}
		_, err := feed.Next(ctx, buf)
		if errors.Is(err, state.ErrCompacted) {
			feed = state.Changes[*object.Authority](s.store, s.store.View().Version)
		} else if err != nil {
			return err
		}
	}
}

// adopt makes the store's authority this server's. From its next handshake on it shows certificates of that one.
func (s *server) adopt(there *object.Authority) error {
	before := s.authority.Mark()
	news, err := s.authority.Adopt(there.Spec.Certificates, there.Spec.Key)
	if err != nil || !news || s.authority.Mark() == before {
		return err
	}
	s.log.Info("the cluster's authority is another one now", "authority", pki.Short(s.authority.Pin()), "former", pki.Short(s.authority.Former()))
	return s.writeKubeconfig()
}

// rotateAuthority has a new authority sign from now on, beside which the former one is trusted. Only the leader can.
func (s *server) rotateAuthority(ctx context.Context, _ string) error {
	cert, key, err := s.authority.Next()
	if err != nil {
		return err
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	if err := s.replaceAuthority(ctx, object.AuthoritySpec{Certificates: cert, Key: key, Rotating: &now}); err != nil {
		return fmt.Errorf("rotate the cluster's authority: %w", err)
	}
	return nil
}

// finishRotation ends all trust in the former authority, unless somebody still depends on it who is not among those left behind,
// which are separated by commas. Only the leader can.
func (s *server) finishRotation(ctx context.Context, leaveBehind string) error {
	leave := slices.DeleteFunc(strings.Split(leaveBehind, ","), func(name string) bool { return name == "" })
	status, err := s.authorityStatus(ctx)
	if err != nil {
		return err
	}
	for _, name := range leave {
		if !slices.ContainsFunc(status.Waiting, func(w Waiting) bool { return w.Name == name }) {
			return fmt.Errorf("--leave-behind %s: nobody of that name is waited for", name)
		}
	}
	status.Waiting = slices.DeleteFunc(status.Waiting, func(w Waiting) bool { return slices.Contains(leave, w.Name) })
	if len(status.Waiting) > 0 {
		return fmt.Errorf("%s would be cut off:\n%s\nWait until `mainstay ca status` shows none; who is never to come back, name by --leave-behind",
			count(len(status.Waiting)), list(status.Waiting))
	}
	cert, key, err := s.authority.Last()
	if err != nil {
		return err
	}
	if err := s.replaceAuthority(ctx, object.AuthoritySpec{Certificates: cert, Key: key}); err != nil {
		return fmt.Errorf("end the rotation of the cluster's authority: %w", err)
	}
	s.log.Info("the former authority is trusted no more", "left behind", leave)
	return nil
}

func count(n int) string {
	if n == 1 {
		return "1 machine"
	}
	return fmt.Sprintf("%d machines", n)
}

func list(waiting []Waiting) string {
	lines := make([]string, 0, len(waiting))
	for _, w := range waiting {
		lines = append(lines, fmt.Sprintf("  %s %s: %s", w.Role, w.Name, w.Why))
	}
	return strings.Join(lines, "\n")
}

// replaceAuthority writes the authority that follows the one this server has, and adopts it.
func (s *server) replaceAuthority(ctx context.Context, next object.AuthoritySpec) error {
	mine := s.authority.CertPEM()
	_, err := s.store.Update(ctx, func(tx *state.Txn) error {
		there, ok := theAuthority(tx)
		if !ok {
			return errors.New("the store does not know the authority yet: give all servers this version, then try again")
		}
		if string(there.Spec.Certificates) != string(mine) {
			return errors.New("it was changed meanwhile: look at `mainstay ca status`")
		}
		after := there.DeepCopy()
		if after.Spec = next; next.Rotating != nil {
			after.Spec.Revoked = there.Spec.Revoked
		}
		tx.Update(after)
		return nil
	})
	if err != nil {
		return err
	}
	there, _ := theAuthority(s.store.View())
	return s.adopt(there)
}
