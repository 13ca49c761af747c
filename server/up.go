package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// Up runs a whole cluster on this machine, server and agent in one process, until ctx ends. Stopping it stops no container.
func Up(ctx context.Context, cfg Config) error {
	return run(ctx, cfg, (*server).onlyNode)
}

// onlyNode is a node on this machine, beside which no other need be expected.
func (s *server) onlyNode() []part {
	s.alone = true
	return []part{s.localAgent}
}

// localAgent runs this machine's node. It talks to the API over the network as any other node's agent does; but for its
// certificate it need not ask.
func (s *server) localAgent(ctx context.Context) error {
	known := func(r state.Reader) bool { return plan.LiveCluster(r) != nil }
	if err := await(ctx, s.store, known); err != nil {
		return err
	}
	cluster := plan.LiveCluster(s.store.View()).Name
	name, err := nodeName(s.cfg.DataDir, s.cfg.NodeName)
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(filepath.Join(s.cfg.DataDir, clusterFile), []byte(cluster+"\n")); err != nil {
		return fmt.Errorf("record the cluster's id: %w", err)
	}
	machine, err := ownMachine(s.cfg.DataDir)
	if err != nil {
		return err
	}
	a := &agent{
		cfg: AgentConfig{
			Servers: []string{s.reachable}, DataDir: s.cfg.DataDir, DockerHost: s.cfg.DockerHost, NodeIP: node.HostIP(),
			Version: s.cfg.Version, Log: s.log,
		},
		name: name, cluster: cluster, registry: s.registry, open: s.open, listen: s.agentHost(),
		identity: s.authority.Renewing(pki.Identity{Name: name, Machine: machine, Group: pki.GroupNodes, Hosts: []string{pki.NodeHost(name)}}),
	}
	s.ownNode.Store(&name)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.servePods(ctx, name) })
	g.Go(func() error { return a.run(ctx) })
	return g.Wait()
}

// machineFile names this machine among those that had the node's name in turn: its certificates have no key in common.
const machineFile = "machine"

// ownMachine is what the file says, or what it says from now on.
func ownMachine(dataDir string) (string, error) {
	path := filepath.Join(dataDir, machineFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		content = []byte(join.NewMachine() + "\n")
		err = durable.ReplaceFile(path, content)
	}
	if err != nil {
		return "", fmt.Errorf("know this machine again: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// agentHost is the address that the agent serves on: who keeps the API to this machine means the rest, too.
func (s *server) agentHost() netip.Addr {
	if s.listening.IsLoopback() {
		return s.listening
	}
	return node.HostIP()
}
