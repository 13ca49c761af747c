package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

// AgentConfig says what a node's process is to be. Every field but Servers, DataDir and Log has a sane zero value.
type AgentConfig struct {
	Servers    []string // host:port of some servers; the others are learned
	Token      string   // lets the machine join; not needed once it has
	DataDir    string
	DockerHost string     // "" is Docker's own default
	NodeName   string     // "" is the host's name
	NodeIP     netip.Addr // by which others reach the node; zero is the address this host reaches the servers from
	Version    string     // Mainstay's own
	Log        *slog.Logger
}

// identity is how a node proves who it is.
type identity interface {
	ServerTLS() *tls.Config
	ToServers() *tls.Config
	Worth(chain []*x509.Certificate, now time.Time) pki.Worth
}

// agent is a node's part of a process.
type agent struct {
	cfg           AgentConfig
	name, cluster string
	identity      identity
	learned       []string   // servers known from earlier runs
	listen        netip.Addr // where logs are served
	registry      *prometheus.Registry
	open          openHost // nil: this machine and its Docker Engine
}

// Agent runs this machine as a node of the cluster that cfg.Servers belong to, until ctx ends. A machine that is no node yet
// joins by cfg.Token first. Stopping it stops no container.
func Agent(ctx context.Context, cfg AgentConfig) error { return runAgent(ctx, cfg, nil) }

func runAgent(ctx context.Context, cfg AgentConfig, open openHost) error {
	keepGarbageSmall()
	release, err := lockDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer release()
	a, err := enrol(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a.registry, a.open = prometheus.NewRegistry(), open
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := a.run(ctx); ctx.Err() == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// run is the node until ctx ends.
func (a *agent) run(ctx context.Context) error {
	dir := filepath.Join(a.cfg.DataDir, "node")
	open := a.open
	if open == nil {
		open = a.thisHost
	}
	here, err := open(a.cluster, dir)
	if err != nil {
		return err
	}
	defer here.close()
	listener, err := listenForServers(a.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	client := link.New(a.cfg.Servers, a.identity.ToServers)
	client.Learn(a.learned)
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range here.beside {
		g.Go(func() error { return part(ctx) })
	}
	g.Go(func() error { return a.serve(ctx, listener, here.runtime) })
	g.Go(func() error { return a.renew(ctx, client) })
	g.Go(func() error {
		return node.Run(ctx, node.Config{
			Name: a.name, Cluster: a.cluster, Address: listener.Addr().String(), NodeIP: a.cfg.NodeIP, Version: a.cfg.Version,
			DataDir: dir, Client: client, Learned: a.keepServers, Told: a.told(), Runtime: here.runtime, Routers: here.routers, Ping: here.ping,
			Metrics: a.registry, Log: a.cfg.Log,
		})
	})
	return g.Wait()
}

// renew keeps the certificate good, where that is for others to sign.
func (a *agent) renew(ctx context.Context, client *link.Client) error {
	held, ok := a.identity.(*pki.Held)
	if !ok {
		return nil
	}
	return held.Renew(ctx, pki.Issuer{
		Sign: func(ctx context.Context, request []byte) (cert, authority []byte, err error) {
			got, err := client.Renew(ctx, link.RenewRequest{Request: string(request)})
			return []byte(got.Certificate), []byte(got.Authority), err
		},
		Confirm: func(ctx context.Context, mark string) error {
			_, err := client.Renew(ctx, link.RenewRequest{Keeps: mark})
			return err
		},
	}, a.cfg.Log)
}

// told is what hears of the cluster's authority, where that is for others to say.
func (a *agent) told() func(mark string) {
	if held, ok := a.identity.(*pki.Held); ok {
		return held.Told
	}
	return nil
}

// keepServers keeps where the servers are for the next start.
func (a *agent) keepServers(servers []string) {
	a.cfg.Log.Info("servers of the cluster", "servers", servers)
	if err := durable.ReplaceFile(filepath.Join(a.cfg.DataDir, serversFile), []byte(strings.Join(servers, "\n")+"\n")); err != nil {
		a.cfg.Log.Warn("where the servers are is not kept for the next start", "err", err)
	}
}
