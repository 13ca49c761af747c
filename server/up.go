// Package server builds one Mainstay process from its parts and owns their start and stop. It decides nothing that a part
// could decide. Start at Up.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/plan"
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
	DockerHost string // "" is Docker's own default
	NodeName   string // "" is the host's name
	Version    string // Mainstay's own
	Log        *slog.Logger
}

// server is one process and what its parts share.
type server struct {
	cfg       Config
	log       *slog.Logger
	registry  *prometheus.Registry
	authority *pki.Authority
	self      *pki.Renewing // this server's certificate
	store     *state.Store
	raft      *raftlog.Log
	api       *api.API
	logs      logs
	metrics   metrics
	reachable string      // host:port at which this machine reaches the API
	complete  atomic.Bool // the log was replayed to its end once

	// runtime opens what runs Pods and says how to close it; tests have no engine.
	runtime func(cluster, dir string) (runtime.Runtime, func(), error)
}

// Up runs a whole cluster on this machine, server and agent in one process, until ctx ends. Stopping it stops no container.
func Up(ctx context.Context, cfg Config) error {
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
	s, err := newServer(cfg, listener)
	if err != nil {
		return err
	}
	defer s.raft.Close()
	return s.run(ctx, listener)
}

// checkRepository refuses what can only be a slip: a repository that no one could name so, and, for a cluster that is yet to
// begin, a path where nothing is. A living cluster outlasts the loss of its repository.
func checkRepository(cfg Config) error {
	location, err := cfg.Git.Location()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "raft")); err == nil || !filepath.IsAbs(location) {
		return nil
	}
	if _, err := os.Stat(location); err != nil {
		return fmt.Errorf("--repo: there is no repository at %s", location)
	}
	return nil
}

func newServer(cfg Config, listener net.Listener) (*server, error) {
	authority, err := pki.Open(filepath.Join(cfg.DataDir, "pki"), time.Now)
	if err != nil {
		return nil, err
	}
	s := &server{
		cfg: cfg, log: cfg.Log, authority: authority, registry: prometheus.NewRegistry(),
		store: state.New(tables.Schema(), time.Now), reachable: reachableAddress(listener),
	}
	s.metrics = newMetrics(s.registry, s.store)
	s.self = authority.Renewing(pki.Identity{Name: "server", Group: pki.GroupServers, Hosts: hosts(listener)})
	s.runtime = s.dockerRuntime
	s.cfg.Git.CacheDir = filepath.Join(cfg.DataDir, "git")
	s.api = api.New(api.Config{
		Store: s.store, Log: s.log, ReadIndex: s.readIndex, Ready: s.ready, Plan: s.plan, Metrics: s.registry, Version: cfg.Version,
		Agents: &http.Transport{TLSClientConfig: s.self.ClientTLS()},
	})
	s.raft, err = raftlog.Open(raftlog.Config{
		Dir: filepath.Join(cfg.DataDir, "raft"), ID: "server", Bootstrap: true, Store: s.store, Log: cfg.Log, Registry: s.registry,
	})
	return s, err
}

// readIndex returns once the store holds every write that was acknowledged before the call.
func (s *server) readIndex(ctx context.Context) error {
	index, err := s.raft.ReadIndex(ctx)
	if err != nil {
		return err
	}
	_, err = s.store.WaitIndex(ctx, index)
	return err
}

// ready says why this server does not know its cluster yet. A log that is being replayed shows the Cluster long before it
// shows every Pod, and whoever asks meanwhile would hear that the rest is gone.
func (s *server) ready() error {
	switch {
	case !s.complete.Load():
		return errors.New("the log is being replayed")
	case plan.LiveCluster(s.store.View()) == nil:
		return errors.New("the cluster is not known yet: the repository has not been read")
	}
	return nil
}

// hosts lists the names and addresses by which the API may be reached.
func hosts(listener net.Listener) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
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

// run starts every part and returns when ctx ends or one of them fails.
func (s *server) run(asked context.Context, listener net.Listener) error {
	g, ctx := errgroup.WithContext(asked)
	g.Go(func() error { return s.serve(ctx, listener) })
	g.Go(func() error { return s.keepKubeconfig(ctx) })
	g.Go(func() error { return s.raft.Lead(ctx, s.duties) })
	g.Go(func() error { return s.agent(ctx) })
	g.Go(func() error {
		select {
		case <-s.raft.Done():
			return s.raft.Err()
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
