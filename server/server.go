// Package server builds one Mainstay process from its parts and owns their start and stop. It decides nothing that a part
// could decide. Start at Run for the control plane, at Agent for a node, at Up for both.
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/controllers/nodelife"
	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// Config says what a process is to be. Every field but Git.Repo and Log has a sane zero value where the comment names one.
type Config struct {
	Git        gitsync.Config
	DataDir    string
	Listen     string // host:port of the API
	Advertise  string // host:port by which others reach it; "" is what Listen says, or this host's address
	DockerHost string // "" is Docker's own default; for Up alone
	NodeName   string // "" is the host's name; for Up alone
	Version    string // Mainstay's own
	Log        *slog.Logger

	Name     string   // among the servers; "" is the host's with something that no other has
	Join     []string // host:port of servers to join, the first time; none: it is the first of its cluster
	Token    string   // lets the server join
	NonVoter bool     // it is to have everything and decide nothing; not for the first

	wires wires // for tests
}

// wires are how a server hears of the others, and what version it is.
type wires struct {
	patience time.Duration // as raftlog.Config has it
	dial     dialFunc      // reaches other servers; nil: by TCP
	schema   *state.Schema // what the server stores; nil: that of this version
}

// stored is what a server stores.
func (w wires) stored() *state.Schema {
	if w.schema != nil {
		return w.schema
	}
	return tables.Schema()
}

// dialFunc is net.Dialer's DialContext.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// server is one process and what its parts share.
type server struct {
	cfg Config
	membership
	id        string // among the servers
	log       *slog.Logger
	registry  *prometheus.Registry
	authority *pki.Authority
	self      *pki.Renewing // this server's certificate
	store     *state.Store
	level     int // the newest format level that it reads
	raft      *raftlog.Log
	peers     *raftlog.Streams // raft's connections with the other servers
	api       *api.API
	gate      *join.Gate
	metrics   metrics
	copy      turn                                // of the repository
	listening netip.Addr                          // the API's own address
	reachable string                              // host:port at which this machine reaches the API
	advertise string                              // host:port at which others do
	forPods   atomic.Pointer[string]              // host:port at which Pods do; empty: they do not
	ownNode   atomic.Pointer[string]              // the node that this process is, whose certificate follows the authority by itself; empty: none
	alone     bool                                // its own agent is the only one to expect, unless Git declares others
	toPeers   http.RoundTripper                   // reaches the other servers by HTTP
	signs     *signs                              // for the leader
	census    singleflight.Group                  // of which servers answer
	complete  atomic.Bool                         // the log was replayed to its end once
	hadNodes  bool                                // the authority is older than this process: nodes may have joined before
	quiet     time.Duration                       // see quietTime; tests have less
	beats     atomic.Pointer[nodelife.Heartbeats] // of this term; nil before the first

	// open is nil for this machine and its Docker Engine; tests have none.
	open openHost
}

// Run is a member of the control plane, without a node, until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	return run(ctx, cfg, func(*server) []part { return nil })
}

// part is something that runs beside the others until ctx ends.
type part func(ctx context.Context) error

// run makes a server, and runs it and what is to run beside it.
func run(ctx context.Context, cfg Config, beside func(*server) []part) error {
	if err := checkRepository(cfg); err != nil {
		return err
	}
	keepGarbageSmall()
	release, err := lockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer release()
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("serve the API: %w: give another address by --listen", err)
	}
	defer listener.Close()
	s, err := newServer(ctx, cfg, listener)
	if err != nil {
		return err
	}
	defer s.raft.Close()
	return s.run(ctx, listener, beside(s)...)
}

// checkRepository refuses what can only be a slip: a repository that no one could name so, and, for a cluster that is yet to
// begin, a path where nothing is. A living cluster outlasts the loss of its repository.
func checkRepository(cfg Config) error {
	self, err := readMembership(cfg.DataDir)
	if cfg.Git.Repo == "" && errors.Is(err, fs.ErrNotExist) && len(cfg.Join) > 0 {
		return nil // the servers will say
	}
	location, err := self.follows(cfg.Git).Location()
	if err != nil {
		return err
	}
	if self.Name != "" || len(cfg.Join) > 0 || !filepath.IsAbs(location) {
		return nil
	}
	if _, err := os.Stat(location); err != nil {
		return fmt.Errorf("--repo: there is no repository at %s", location)
	}
	return nil
}

func newServer(ctx context.Context, cfg Config, listener net.Listener) (*server, error) {
	_, absent := os.Stat(filepath.Join(cfg.DataDir, "pki"))
	advertise, err := advertised(cfg.Advertise, listener)
	if err != nil {
		return nil, err
	}
	self, authority, err := enter(ctx, cfg, advertise)
	if err != nil {
		return nil, err
	}
	cfg.Git = self.follows(cfg.Git)
	if _, err := cfg.Git.Location(); err != nil {
		return nil, err
	}
	s := &server{
		cfg: cfg, id: self.Name, membership: self, log: cfg.Log, advertise: advertise, listening: listener.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap(),
		hadNodes: absent == nil || self.Joined, quiet: quietTime, authority: authority, registry: prometheus.NewRegistry(),
		store: state.New(cfg.wires.stored(), time.Now), level: cfg.wires.stored().Level(), reachable: reachableAddress(listener),
		signs: newSigns(),
	}
	forPods := s.endpoint(listener)
	s.forPods.Store(&forPods)
	s.ownNode.Store(new(string))
	s.metrics = newMetrics(s.registry, s.store)
	s.self = authority.Renewing(pki.Identity{Name: s.id, Group: pki.GroupServers, Hosts: hosts(listener, advertise)})
	s.peers = raftlog.NewStreams(advertise, dialServer(s.self, s.dial))
	s.gate = join.NewGate(join.Config{Store: s.store, Authority: authority, Clock: time.Now, Log: s.log})
	s.toPeers = s.peerTransport()
	s.cfg.Git.CacheDir, s.cfg.Git.Loader = filepath.Join(cfg.DataDir, "git"), &load.Loader{}
	s.api = api.New(api.Config{
		Store: s.store, Log: s.log, ReadIndex: s.readIndex, Leader: s.leader, Peers: s.toPeers, Ready: s.ready, Plan: s.plan,
		Metrics: s.registry, Version: cfg.Version, Seen: s.seen, Agents: s.agents(), Join: s.letIn, Renew: s.gate.Renew,
		Authority: authority.Mark, Servers: s.forServers(), Members: s.listed,
	})
	s.raft, err = raftlog.Open(raftlog.Config{
		Dir: filepath.Join(cfg.DataDir, "raft"), ID: s.id, Bootstrap: !self.Joined, Store: s.store, Log: cfg.Log, Registry: s.registry,
		Streams: s.peers, Patience: cfg.wires.patience,
	})
	return s, err
}

// hosts lists the names and addresses by which the API may be reached.
func hosts(listener net.Listener, advertise string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(advertise); err == nil {
		names = append(names, host)
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	if ip := listener.Addr().(*net.TCPAddr).IP; !ip.IsUnspecified() {
		return append(names, ip.String())
	}
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if prefix, ok := a.(*net.IPNet); ok {
			names = append(names, prefix.IP.String())
		}
	}
	return names
}

// run starts every part and returns when asked ends or one of them fails. A leader that is asked to end hands over first, while
// everything still works.
func (s *server) run(asked context.Context, listener net.Listener, beside ...part) error {
	until, end := context.WithCancelCause(context.WithoutCancel(asked))
	defer end(nil)
	g, ctx := errgroup.WithContext(until)
	g.Go(func() error { return s.serve(ctx, listener) })
	g.Go(func() error { return s.administer(ctx) })
	g.Go(func() error { return s.certifyService(ctx) })
	g.Go(func() error { return s.keepKubeconfig(ctx) })
	g.Go(func() error { return s.learnAll(ctx) })
	g.Go(func() error { return s.belong(ctx) })
	g.Go(func() error { return s.followAuthority(ctx) })
	g.Go(func() error { return s.keepSifting(ctx) })
	g.Go(func() error { return s.keepForgetting(ctx) })
	g.Go(func() error { return s.keepGarbageRight(ctx) })
	g.Go(func() error { return s.tellSigns(ctx) })
	g.Go(func() error { return s.warm(ctx) })
	g.Go(func() error { return s.raft.Lead(ctx, s.duties) })
	for _, p := range beside {
		g.Go(func() error { return p(ctx) })
	}
	g.Go(func() error {
		select {
		case <-s.raft.Done():
			return s.raft.Err()
		case <-asked.Done():
			s.handOver(ctx)
			end(context.Cause(asked))
			return context.Cause(asked)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	err := g.Wait()
	if asked.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// handOverTimeout bounds how long the end of this process waits for another server to lead; then one is elected.
const handOverTimeout = 2 * time.Second

// handOver makes another server lead if this one does and there is one that can.
func (s *server) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, handOverTimeout, fmt.Errorf("no server took over within %s", handOverTimeout))
	defer cancel()
	if err := s.raft.HandOver(ctx); err != nil && !errors.Is(err, raftlog.ErrNoHeir) {
		s.log.Warn("the leader ends without having handed over: another server is elected", "err", err)
	}
}
