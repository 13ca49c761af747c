// Package policy enforces NetworkPolicies on a node: whom a Pod of this node may reach, and who may reach it. The server has
// resolved selectors to addresses already; this package turns them into an nftables table of its own and touches nothing
// else. It never looks at Pods, and holds no state that it could not make again. Why the table is made as it is, and what is
// promised when, is in DESIGN.md. Start at Enforcer.Apply; render is pure and says what the table holds.
package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/nft"
)

// Config says whose policies are enforced, and where.
type Config struct {
	Cluster string // the cluster's id; the table's name follows from it, so two clusters can share a host
	Node    string // this node's name: the Peer of that name says which Pods are this node's
	Log     *slog.Logger
}

// Enforcer keeps the table in line with a Network. One goroutine at a time may use it.
type Enforcer struct {
	config Config
	table  string                        // its name: one of two, by turns
	spare  string                        // the other
	own    netip.Prefix                  // the range of this node's Pods, as it was last known
	parts  map[types.NamespacedName]part // what policies were rendered to
	left   string                        // the fingerprint of the table as it was left
	have   *ruleset                      // what the table holds; nil: not known
	open   func(table string) (knftables.Interface, error)
}

// New makes an Enforcer. Nothing is made or changed before the first Apply.
func New(config Config) *Enforcer {
	sum := sha256.Sum256([]byte(config.Cluster))
	name := "ms-" + hex.EncodeToString(sum[:4]) + "-policy"
	return &Enforcer{config: config, table: name, spare: name + "-2", parts: map[types.NamespacedName]part{}, open: opener()}
}

// opener asks once for each table what this host's nft can do.
func opener() func(table string) (knftables.Interface, error) {
	opened := map[string]knftables.Interface{}
	return func(table string) (knftables.Interface, error) {
		if opened[table] == nil {
			nft, err := knftables.New(knftables.IPv4Family, table)
			if err != nil {
				return nil, fmt.Errorf("nftables (Debian package nftables): %w", err)
			}
			opened[table] = nft
		}
		return opened[table], nil
	}
}

// Table is the name of the nftables table, of family ip: another one whenever it was made anew.
func (e *Enforcer) Table() string { return e.table }

// Apply brings the table in line with n. No packet gets through meanwhile that may not by what held before and by what will hold;
// see DESIGN.md. With nothing changed it looks whether the table still stands and makes it again if it does not. Without policies there is no table. After an error
// the table is as it was before, or is made anew by the next call.
func (e *Enforcer) Apply(ctx context.Context, n *link.Network, changed link.NetworkChange) error {
	ours := changed.Whole || changed.Peers || changed.Policies
	if !ours && len(changed.Services) > 0 {
		return nil // Services are the proxy's
	}
	if e.have != nil && (changed.Whole || !ours) {
		if err := e.look(); err != nil {
			return err
		}
		if e.have != nil && !ours {
			return nil
		}
	}
	return e.write(ctx, e.render(n))
}

// write makes the table what it should be. New chains come before whoever is sent to them.
func (e *Enforcer) write(ctx context.Context, want *ruleset) error {
	if e.have == nil {
		return e.rebuild(ctx, want)
	}
	if err := e.change(ctx, e.have.with(want)); err != nil {
		return err
	}
	return e.change(ctx, want)
}

// change makes want of what is known to stand, in one transaction.
func (e *Enforcer) change(ctx context.Context, want *ruleset) (err error) {
	have := e.have
	e.have = nil
	changed, err := e.run(ctx, e.table, func(tx *knftables.Transaction) { update(tx, have, want) })
	if err == nil && changed {
		e.left, err = fingerprint(e.table)
	}
	if err == nil {
		e.have = want
	}
	return err
}

// rebuild makes the table anew beside whatever stands, which goes only when that is done.
func (e *Enforcer) rebuild(ctx context.Context, want *ruleset) error {
	standing, err := nft.HasRules(e.table)
	if err != nil {
		return err
	}
	if standing {
		e.table, e.spare = e.spare, e.table
	}
	if _, err := e.run(ctx, e.table, func(tx *knftables.Transaction) { remove(tx); update(tx, &ruleset{}, want) }); err != nil {
		return err
	}
	if _, err := e.run(ctx, e.spare, remove); err != nil {
		return err
	}
	if e.left, err = fingerprint(e.table); err == nil {
		e.have = want
	}
	return err
}

// run tells whether there was anything to do.
func (e *Enforcer) run(ctx context.Context, table string, fill func(*knftables.Transaction)) (changed bool, err error) {
	nft, err := e.open(table)
	if err != nil {
		return false, err
	}
	tx := nft.NewTransaction()
	if fill(tx); tx.NumOperations() == 0 {
		return false, nil
	}
	if err := nft.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("write nftables table %s: %w", table, err)
	}
	return true, nil
}

// look forgets what the table holds if it is not as it was left.
func (e *Enforcer) look() error {
	found, err := fingerprint(e.table)
	if err != nil {
		return err
	}
	if found != e.left {
		e.config.Log.Warn("the table of network policies was changed by somebody else: it is made anew", "table", e.table)
		e.have = nil
	}
	return nil
}

// Cleanup removes the table: nothing is restricted any more. That there is none is no error.
func (e *Enforcer) Cleanup(ctx context.Context) error {
	e.have = nil
	return e.write(ctx, &ruleset{})
}

// fingerprint is another one when somebody changed a rule of the table, or a Pod in its verdict maps; that of no table
// is that of an empty one.
func fingerprint(table string) (string, error) {
	found, err := nft.Rules(table)
	if err != nil {
		return "", err
	}
	for _, name := range []string{egress, ingress} {
		pods, err := nft.Elements(table, name)
		if err != nil {
			return "", err
		}
		found += fmt.Sprintf(" %s %v", name, pods)
	}
	return found, nil
}
