package join

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// longest is how long a token may be good: who needs one for longer makes another.
const longest = 30 * 24 * time.Hour

// Wanted is a token to be made.
type Wanted struct {
	Role string        `json:"role"` // object.RoleServer or object.RoleAgent
	TTL  time.Duration `json:"ttl"`  // nanoseconds
	Once bool          `json:"once"`
}

// Listed is what may be shown of a token.
type Listed struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Once    bool      `json:"once"`
	Uses    int32     `json:"uses"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	State   string    `json:"state"` // StateGood, used, revoked or expired
}

// StateGood is that of a token that lets machines in.
const StateGood = "good"

// CreateToken makes a token. This is the only time that its secret is seen.
func (g *Gate) CreateToken(ctx context.Context, w Wanted) (Token, error) {
	if w.Role != object.RoleServer && w.Role != object.RoleAgent {
		return Token{}, fmt.Errorf("a token is for the role %s or %s, not %q", object.RoleServer, object.RoleAgent, w.Role)
	}
	if w.TTL <= 0 || w.TTL > longest {
		return Token{}, fmt.Errorf("a token is good for more than no time and for %s at most, not for %s", longest, w.TTL)
	}
	token := newToken(g.Authority.Pin())
	stored := &object.JoinToken{ObjectMeta: metav1.ObjectMeta{Name: token.ID}}
	stored.Spec = object.JoinTokenSpec{Role: w.Role, Once: w.Once, Hash: token.hash(), Expires: metav1.NewTime(g.Clock().Add(w.TTL))}
	_, err := g.Store.Update(ctx, func(tx *state.Txn) error {
		tx.Create(stored)
		return nil
	})
	if err != nil {
		return Token{}, fmt.Errorf("keep the token: %w", err)
	}
	g.Log.Info("join token made", "token", token.ID, "role", w.Role, "once", w.Once, "ttl", w.TTL)
	return token, nil
}

// Tokens lists every token that has not been removed yet, the newest first.
func (g *Gate) Tokens() []Listed {
	now, list := g.Clock(), []Listed{}
	for t := range state.List[*object.JoinToken](g.Store.View(), "") {
		list = append(list, Listed{
			ID: t.Name, Role: t.Spec.Role, Once: t.Spec.Once, Uses: t.Spec.Uses,
			Created: t.CreationTimestamp.Time, Expires: t.Spec.Expires.Time, State: condition(&t.Spec, now),
		})
	}
	slices.SortStableFunc(list, func(a, b Listed) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func condition(spec *object.JoinTokenSpec, now time.Time) string {
	switch {
	case spec.Revoked:
		return "revoked"
	case !now.Before(spec.Expires.Time):
		return "expired"
	case spec.Once && spec.Uses > 0:
		return "used"
	}
	return StateGood
}

// RevokeToken makes a token good for nothing more; who joined by it stays. False: there is none of that name.
func (g *Gate) RevokeToken(ctx context.Context, id string) (known bool, err error) {
	_, err = g.Store.Update(ctx, func(tx *state.Txn) error {
		var stored *object.JoinToken
		if stored, known = state.Get[*object.JoinToken](tx, state.Key{Name: id}); !known {
			return nil
		}
		revoked := stored.DeepCopy()
		revoked.Spec.Revoked = true
		tx.Update(revoked)
		return nil
	})
	if err != nil {
		return known, fmt.Errorf("revoke token %s: %w", id, err)
	}
	if known {
		g.Log.Info("join token revoked", "token", id)
	}
	return known, nil
}
