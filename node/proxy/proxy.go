// Package proxy leads connections to Services: it turns Services and EndpointSlices into elements of nftables maps in a
// table of its own, so that a look-up does not slow with the number of Services and a change is one small transaction; and it
// ends connections to endpoints that are gone. It answers for no node but its own, watches nothing, and touches no table and
// no connection of others. Why the maps are as they are is in DESIGN.md. Start at Proxy.Apply, then routesOf.
package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/nft"
)

// Config says for whom to route.
type Config struct {
	Cluster string       // the cluster's id; the table's name follows from it, so two clusters can share a host
	Node    string       // this node's name, as EndpointSlices have it
	Pods    netip.Prefix // of all nodes: who keeps their address on the way to a Service
	// Services is the range of cluster addresses. Zero: not known; then addresses of it that no Service has are not refused,
	// and the node's own processes need a default route to reach Services.
	Services netip.Prefix
	// Bridge is the device that has the address of the Pods' gateway. The node's own processes reach Services by it, so that they
	// have an address that Pods of other nodes can answer. "": by whatever route there is.
	Bridge string
	Log    *slog.Logger
}

// Proxy routes one cluster's Services on this node. Its methods must not be called at the same time.
type Proxy struct {
	config Config
	batch  int

	nft   knftables.Interface // nil until the first Apply
	table kernel

	// programmed is what the table holds; nil: that is not known, and all is to be programmed again.
	programmed *ledger

	read time.Time     // when elements were last read
	cost time.Duration // of reading them
}

// kernel is what nft does not do, or too slowly.
type kernel struct {
	// rules identifies the rules of the table: it changes when anybody changes them.
	rules func() (string, error)
	// elements digests those of a map or set of the table.
	elements func(set string) (nft.Digest, error)
	// end removes connections from the kernel's table.
	end func(ours func(flow) bool) (int, error)
	// route leads the node's own processes to Services.
	route func() error
}

// ledger is what was programmed, and for what.
type ledger struct {
	inputs   map[types.NamespacedName]input
	owners   map[frontend]types.NamespacedName
	waiting  map[types.NamespacedName]bool // Services that want a frontend which another one has
	hairpins map[element]int               // how often each is wanted: several Services may want the same
	shared   map[string]bool               // shared chains that exist
	elements map[string]nft.Digest         // by map or set
	rules    string
}

// input is a Service as it was programmed.
type input struct {
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

// manyElements: a command of 200 elements costs nft half of what 200 commands do; more than that gains nothing.
const manyElements = 200

// New returns a Proxy that has done nothing yet.
func New(config Config) *Proxy {
	p := &Proxy{config: config, batch: manyElements}
	p.table = kernel{
		rules:    func() (string, error) { return nft.Rules(TableName(config.Cluster)) },
		elements: func(set string) (nft.Digest, error) { return nft.Elements(TableName(config.Cluster), set) },
		end:      endFlows,
		route:    func() error { return leadTo(config.Services, config.Bridge) },
	}
	return p
}

// TableName is the name of a cluster's nftables table for Services.
func TableName(cluster string) string {
	sum := sha256.Sum256([]byte(cluster))
	return "ms-" + hex.EncodeToString(sum[:])[:8] + "-services"
}

// Apply brings the table in line with n, of which c has changed since the call before; see link.NetworkChange. After an
// error the next call must be for everything; what is known to be programmed already is not programmed again.
func (p *Proxy) Apply(ctx context.Context, n *link.Network, c link.NetworkChange) error {
	if err := p.apply(ctx, n, c); err != nil {
		return fmt.Errorf("route Services: %w", err)
	}
	return nil
}

func (p *Proxy) apply(ctx context.Context, n *link.Network, c link.NetworkChange) error {
	nothing := !c.Whole && !c.Peers && !c.Policies && len(c.Services) == 0
	if p.programmed == nil || c.Whole || nothing {
		intact, err := p.look()
		switch {
		case err != nil:
			return err
		case !intact:
			return p.replace(ctx, n)
		}
	}
	switch {
	case c.Whole:
		if err := p.update(ctx, n, p.everyName(n)); err != nil {
			return err
		}
		return p.sweep(p.verdictsOnAll(n))
	case len(c.Services) > 0:
		return p.update(ctx, n, slices.Clone(c.Services))
	}
	return nil
}

func (p *Proxy) open() error {
	if p.nft != nil {
		return nil
	}
	nft, err := knftables.New(knftables.IPv4Family, TableName(p.config.Cluster), knftables.UseNetlink)
	if err != nil {
		return fmt.Errorf("nftables (Debian package nftables): %w", err)
	}
	p.nft = nft
	return nil
}

// look tells whether the table is as it was programmed, and puts back the route.
func (p *Proxy) look() (intact bool, err error) {
	if p.programmed == nil {
		return false, nil
	}
	rules, err := p.table.rules()
	if err != nil {
		return false, err
	}
	complete, err := p.complete()
	if err != nil {
		return false, err
	}
	if rules != p.programmed.rules || !complete {
		p.config.Log.Warn("the table of Services was changed by somebody else: programming it again", "table", TableName(p.config.Cluster))
		return false, nil
	}
	return true, p.table.route()
}

// readShare bounds what reading costs where there are very many elements: it rests for so many times as long as it took.
const readShare = 100

// complete tells whether every map and set has the elements that it should: none was taken away, added or changed.
func (p *Proxy) complete() (bool, error) {
	if time.Since(p.read) < readShare*p.cost {
		return true, nil
	}
	start := time.Now()
	defer func() { p.read, p.cost = time.Now(), time.Since(start) }()
	for _, set := range checkedSets() {
		found, err := p.table.elements(set)
		if err != nil || found != p.programmed.elements[set] {
			return false, err
		}
	}
	return true, nil
}

// replace programs all of n, whatever the table holds.
func (p *Proxy) replace(ctx context.Context, n *link.Network) error {
	start := time.Now()
	p.programmed = nil
	if err := p.open(); err != nil {
		return err
	}
	l := newLedger()
	_, wanted := l.turn(inputsOf(n, namesIn(n)), p.config.Node)
	_, all := l.count(wants{}, wantsOf(wanted))
	if err := p.run(ctx, func(tx *knftables.Transaction) error { return p.whole(ctx, tx, all) }); err != nil {
		if err := p.recreate(ctx, all, err); err != nil {
			return err
		}
	}
	l.tally(nil, all.elements)
	for name := range all.chains {
		l.shared[name] = shared(name)
	}
	rules, err := p.table.rules()
	if err != nil {
		return err
	}
	l.rules = rules
	p.programmed = l
	p.config.Log.Info("Services programmed", "services", len(n.Services), "took", time.Since(start))
	return errors.Join(p.table.route(), p.sweep(verdictsOn(nil, wanted, p.config.Services)))
}

func (p *Proxy) run(ctx context.Context, fill func(*knftables.Transaction) error) error {
	tx := p.nft.NewTransaction()
	if err := fill(tx); err != nil {
		return err
	}
	if tx.NumOperations() == 0 {
		return nil
	}
	return p.nft.Run(ctx, tx)
}

// whole replaces what the table holds. Where no client is to keep an endpoint, a new table is made: nft empties a large
// one slowly.
func (p *Proxy) whole(ctx context.Context, tx *knftables.Transaction, w wants) error {
	chains, err := p.nft.List(ctx, "chains")
	if err != nil && !knftables.IsNotFound(err) {
		return fmt.Errorf("list chains: %w", err)
	}
	if !slices.ContainsFunc(chains, func(name string) bool { return w.chains[name].clients > 0 }) {
		p.fresh(tx, w)
		return nil
	}
	sets, err := p.nft.List(ctx, "sets")
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	program{tx, p.batch}.whole(w, p.config, chains, sets)
	return nil
}

func (p *Proxy) fresh(tx *knftables.Transaction, w wants) {
	tx.Add(&knftables.Table{}) // deleting what is not there would fail
	tx.Delete(&knftables.Table{})
	program{tx, p.batch}.whole(w, p.config, nil, nil)
}

// recreate programs into a new table where the one that is there cannot be changed into what it should be: another version
// made it, or somebody changed it. Clients then lose the endpoints they were to keep.
func (p *Proxy) recreate(ctx context.Context, w wants, why error) error {
	p.config.Log.Warn("the table of Services is made anew", "table", TableName(p.config.Cluster), "err", why)
	return p.run(ctx, func(tx *knftables.Transaction) error {
		p.fresh(tx, w)
		return nil
	})
}

// update programs some Services. What is programmed is not known any more after an error of nft.
func (p *Proxy) update(ctx context.Context, n *link.Network, changed []types.NamespacedName) error {
	l := p.programmed
	p.programmed = nil
	for name := range l.waiting {
		changed = append(changed, name)
	}
	slices.SortFunc(changed, compareNames)
	old, wanted := l.turn(inputsOf(n, slices.Compact(changed)), p.config.Node)
	before, after := l.count(wantsOf(old), wantsOf(wanted))
	chains := false
	err := p.run(ctx, func(tx *knftables.Transaction) error {
		chains = program{tx, p.batch}.change(before, after, l.shared)
		return nil
	})
	if err != nil {
		return err
	}
	l.tally(before.elements, after.elements)
	if chains {
		if l.rules, err = p.table.rules(); err != nil {
			return err
		}
	}
	p.programmed = l
	if !mayEnd(old, wanted) {
		return nil
	}
	return p.sweep(verdictsOn(old, wanted, netip.Prefix{}))
}

// everyName is of all Services that are or were programmed.
func (p *Proxy) everyName(n *link.Network) []types.NamespacedName {
	names := namesIn(n)
	for name := range p.programmed.inputs {
		if n.Services[name] == nil {
			names = append(names, name)
		}
	}
	return names
}

func (p *Proxy) verdictsOnAll(n *link.Network) verdicts {
	var all []route
	for _, s := range inputsOf(n, namesIn(n)) {
		all = append(all, routesOf(s.service, s.slices, p.config.Node)...)
	}
	return verdictsOn(nil, all, p.config.Services)
}

// Cleanup removes the table of a cluster's Services. None is no error. Connections that were led by it go on.
func Cleanup(ctx context.Context, cluster string) error {
	nft, err := knftables.New(knftables.IPv4Family, TableName(cluster))
	if err != nil {
		return fmt.Errorf("nftables (Debian package nftables): %w", err)
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{}) // deleting what is not there would fail
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", TableName(cluster), err)
	}
	return nil
}
