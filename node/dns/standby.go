package dns

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
)

const (
	// maxStandbys is how many other nodes share the questions of one that does not answer: enough that some are there, and few
	// enough that the table seldom changes.
	maxStandbys = 3
	// lookEvery is how many calls without a change pass until it is looked whether the table still stands.
	lookEvery = 12
	// beforeServices is where the table's chain is called: what it translates, the proxy leaves alone.
	beforeServices = knftables.DNATPriority + "-10"
)

// Standby has the kernel send this node's Pods to other nodes' Servers for as long as nobody listens at their own node's address:
// at once when the agent ends, however it does. A refusal would not do, since the kernel sends each Pod one a second, and
// resolvers wait for seconds for what is neither answered nor refused. What somebody here listens for is not tracked: the kernel
// keeps a flow's way for half a minute, and a port that a resolver uses again would lead to where the agent no longer is, or to a
// node that was asked in its stead and has died since. It is one nftables table, which outlives the process. One goroutine at a
// time may use it.
type Standby struct {
	node, table string
	log         *slog.Logger
	nft         knftables.Interface // nil before it is first needed
	have        []knftables.Rule    // what is in the table; none: there is no table
	known       bool                // have is right
	quiet       int                 // calls since it was looked
	failed      bool                // the last attempt, which was told of
}

// NewStandby returns one for a node. Nothing is made or changed before the first Apply.
func NewStandby(cluster, node string, log *slog.Logger) *Standby {
	sum := sha256.Sum256([]byte(cluster))
	return &Standby{node: node, table: "ms-" + hex.EncodeToString(sum[:4]) + "-names", log: log}
}

// Apply has the contract of a node's routers. A kernel that cannot look for sockets in a rule is no error: Pods then wait until
// the agent is back.
func (s *Standby) Apply(ctx context.Context, n *link.Network, changed link.NetworkChange) error {
	if !changed.Whole && !changed.Peers && !slices.Contains(changed.Services, nameService) && !s.look(ctx, changed) {
		return nil
	}
	s.known = s.known && !changed.Whole
	err := s.write(ctx, standbyRules(n, s.node))
	if err != nil && ctx.Err() == nil && !s.failed {
		s.log.Warn("names are not answered while the agent of this node is away", "err", err)
	}
	s.failed = err != nil
	return nil
}

// Cleanup removes the table. None is no error.
func (s *Standby) Cleanup(ctx context.Context) error { return s.write(ctx, nil) }

var nameService = types.NamespacedName{Namespace: object.NameServiceNamespace, Name: object.NameService}

// look tells whether the table must be made again: now and then, when nothing else is to do.
func (s *Standby) look(ctx context.Context, changed link.NetworkChange) bool {
	if len(changed.Services) > 0 || changed.Policies || len(s.have) == 0 {
		return false
	}
	if s.quiet++; s.quiet < lookEvery {
		return false
	}
	s.quiet = 0
	listed, err := s.nft.ListRules(ctx, "")
	s.known = err == nil && len(listed) == len(s.have)
	return !s.known
}

// The table's chains.
const (
	untrackedQuestions = "questions"
	untrackedAnswers   = "answers"
	elsewhere          = "elsewhere"
)

// standbyChains are hooked up so that a question is left untracked, if it is to be, before it is tracked.
func standbyChains() []*knftables.Chain {
	hooked := func(name string, kind knftables.BaseChainType, hook knftables.BaseChainHook, priority knftables.BaseChainPriority) *knftables.Chain {
		return &knftables.Chain{Name: name, Type: &kind, Hook: &hook, Priority: &priority}
	}
	return []*knftables.Chain{
		hooked(untrackedQuestions, knftables.FilterType, knftables.PreroutingHook, knftables.RawPriority),
		hooked(untrackedAnswers, knftables.FilterType, knftables.OutputHook, knftables.RawPriority),
		hooked(elsewhere, knftables.NATType, knftables.PreroutingHook, beforeServices),
	}
}

// write makes the table hold these rules; without any there is none.
func (s *Standby) write(ctx context.Context, rules []knftables.Rule) error {
	if s.known && slices.Equal(s.have, rules) {
		return nil
	}
	if s.nft == nil {
		nft, err := knftables.New(knftables.IPv4Family, s.table)
		if err != nil {
			return fmt.Errorf("nftables (Debian package nftables): %w", err)
		}
		s.nft = nft
	}
	tx := s.nft.NewTransaction()
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("Mainstay's names, while its agent is away")})
	if len(rules) == 0 {
		tx.Delete(&knftables.Table{}) // what is not there could not be deleted
	} else {
		replaceRules(tx, rules)
	}
	s.known = false
	if err := s.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("write nftables table %s: %w", s.table, err)
	}
	s.have, s.known = rules, true
	return nil
}

// replaceRules leaves the chains in their places: while one is hooked up anew, packets pass by both.
func replaceRules(tx *knftables.Transaction, rules []knftables.Rule) {
	for _, chain := range standbyChains() {
		tx.Add(chain)
		tx.Flush(chain)
	}
	for _, rule := range rules {
		tx.Add(&rule)
	}
}

// standbyRules lead questions at the node's own address elsewhere unless somebody listens on it, and those at the cluster's
// nameserver always: whoever asks there has had no answer from the node. None if there is nobody else to ask.
func standbyRules(n *link.Network, node string) []knftables.Rule {
	own, err := netip.ParsePrefix(n.Peers[node].PodCIDR)
	if err != nil || !own.Addr().Is4() {
		return nil // it has none yet
	}
	pods, gateway := own.Masked(), own.Masked().Addr().Next()
	others := standbys(n.EndpointSlicesOf(nameService), gateway)
	if len(others) == 0 {
		return nil
	}
	var draws []string
	for i, other := range others {
		draws = append(draws, strconv.Itoa(i)+" : "+other.String())
	}
	question := "ip saddr " + pods.String() + " meta l4proto { tcp, udp } th dport 53 ip daddr "
	draw := fmt.Sprintf(" dnat to numgen random mod %d map { %s }", len(draws), strings.Join(draws, ", "))
	rules := []knftables.Rule{
		{Chain: untrackedQuestions, Rule: fmt.Sprintf("ip saddr %s ip daddr %s udp dport 53 socket wildcard 0 notrack", pods, gateway)},
		{Chain: untrackedAnswers, Rule: fmt.Sprintf("ip saddr %s ip daddr %s udp sport 53 notrack", gateway, pods)},
		{Chain: elsewhere, Rule: question + gateway.String() + " socket wildcard 0 accept"},
		{Chain: elsewhere, Rule: question + gateway.String() + draw},
	}
	if svc := n.Services[nameService]; svc != nil {
		if address, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
			rules = append(rules, knftables.Rule{Chain: elsewhere, Rule: question + address.String() + draw})
		}
	}
	return rules
}

// standbys are the few servers of names that follow a node's own in the order of addresses, so that every node has others.
func standbys(all []*discoveryv1.EndpointSlice, own netip.Addr) []netip.Addr {
	var after, before []netip.Addr
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			address, err := netip.ParseAddr(e.Addresses[0])
			switch {
			case err != nil || !address.Is4() || address == own:
			case own.Less(address):
				after = append(after, address)
			default:
				before = append(before, address)
			}
		}
	}
	slices.SortFunc(after, netip.Addr.Compare)
	slices.SortFunc(before, netip.Addr.Compare)
	ring := slices.Compact(append(after, before...))
	return ring[:min(len(ring), maxStandbys)]
}
