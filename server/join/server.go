package join

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// joinServer takes a machine in as a server: it gets the authority's key, with which it is trusted by all. It is no member of
// the log yet, but may ask to be made one.
func (g *Gate) joinServer(ctx context.Context, token Token, wanted *link.JoiningServer) (link.Membership, error) {
	if err := checkServer(wanted); err != nil {
		return link.Membership{}, refuse(http.StatusBadRequest, err)
	}
	cluster := plan.LiveCluster(g.Store.View())
	if cluster == nil {
		return link.Membership{}, errUnread
	}
	certificates, key, err := g.Authority.Export()
	if err != nil {
		return link.Membership{}, err
	}
	_, err = g.Store.Update(ctx, func(tx *state.Txn) error { return g.admitServer(tx, token, wanted) })
	if errors.Is(err, state.ErrConflict) {
		return link.Membership{}, apierrors.NewServiceUnavailable("many machines join by this token at once: try again")
	}
	if err != nil {
		return link.Membership{}, err
	}
	m := g.membership(cluster.Name, nil)
	m.Authority, m.AuthorityKey = string(certificates), string(key)
	return m, nil
}

func checkServer(s *link.JoiningServer) error {
	if problems := validation.IsDNS1123Subdomain(s.Name); len(problems) > 0 {
		return fmt.Errorf("%q cannot be a server's name: %s", s.Name, strings.Join(problems, "; "))
	}
	if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is not where a server is reached: give --advertise HOST:PORT", s.Address)
	}
	return nil
}

// admitServer notes one more use of the token, if that is allowed, and that there will be such a server. One that was let in
// and never became a member may be let in again.
func (g *Gate) admitServer(tx *state.Txn, token Token, wanted *link.JoiningServer) error {
	stored, err := g.good(tx, token, object.RoleServer)
	if err != nil {
		return err
	}
	if reached := tables.Level(tx); wanted.Level < reached {
		return refuse(http.StatusUpgradeRequired, fmt.Errorf("server %s is of version %s, which reads formats up to level %d, and the cluster has reached level %d: "+
			"give it the version of the others", wanted.Name, wanted.Version, wanted.Level, reached))
	}
	for s := range state.List[*object.Server](tx, "") {
		if s.Name != wanted.Name && s.Spec.Address == wanted.Address && !s.Spec.Pending {
			return refuse(http.StatusConflict, fmt.Errorf("server %s is at %s already: give this one another --advertise; if it takes that one's place, "+
				"remove that one first: mainstay server remove %s", s.Name, s.Spec.Address, s.Name))
		}
	}
	used := stored.DeepCopy()
	used.Spec.Uses++
	tx.Update(used)
	pardon(tx, wanted.Name)
	spec := object.ServerSpec{Address: wanted.Address, Version: wanted.Version, Level: wanted.Level, Pending: true}
	there, ok := state.Get[*object.Server](tx, state.Key{Name: wanted.Name})
	switch {
	case !ok:
		tx.Create(&object.Server{ObjectMeta: metav1.ObjectMeta{Name: wanted.Name}, Spec: spec})
	case !there.Spec.Pending:
		return refuse(http.StatusConflict, fmt.Errorf("there is a server %s already: give this one another --name; if it takes that one's place, "+
			"remove that one first: mainstay server remove %s", wanted.Name, wanted.Name))
	default:
		again := there.DeepCopy()
		again.Spec = spec
		tx.Update(again)
	}
	return nil
}

// pardon lets a server in again whose name was removed: it has the authority's key by a token now.
func pardon(tx *state.Txn, name string) {
	authority, ok := state.Get[*object.Authority](tx, state.Key{Name: object.AuthorityName})
	if !ok || !slices.Contains(authority.Spec.Revoked, name) {
		return
	}
	pardoned := authority.DeepCopy()
	pardoned.Spec.Revoked = slices.DeleteFunc(pardoned.Spec.Revoked, func(revoked string) bool { return revoked == name })
	tx.Update(pardoned)
}
