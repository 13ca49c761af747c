package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/node/docker"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// agent runs this machine's node. It talks to the API over the network as any other node's agent does.
func (s *server) agent(ctx context.Context) error {
	known := func(r state.Reader) bool { return plan.LiveCluster(r) != nil }
	if err := await(ctx, s.store, known); err != nil {
		return err
	}
	cluster := plan.LiveCluster(s.store.View()).Name
	alone, err := lockCluster(cluster)
	if err != nil {
		return err
	}
	defer alone()
	if err := replaceFile(filepath.Join(s.cfg.DataDir, clusterFile), []byte(cluster+"\n")); err != nil {
		return fmt.Errorf("record the cluster's id: %w", err)
	}
	dir := filepath.Join(s.cfg.DataDir, "node")
	rt, release, err := s.runtime(cluster, dir)
	if err != nil {
		return err
	}
	defer release()
	s.logs.serve(node.LogHandler(rt))
	name, err := s.nodeName()
	if err != nil {
		return err
	}
	identity := s.authority.Renewing(pki.Identity{Name: name, Group: pki.GroupNodes})
	return node.Run(ctx, node.Config{
		Name: name, Cluster: cluster, Address: s.reachable, Version: s.cfg.Version, DataDir: dir,
		Client: link.New([]string{s.reachable}, identity.ClientTLS()), Runtime: rt, Metrics: s.registry, Log: s.log,
	})
}

// dockerRuntime runs Pods on this machine's Docker Engine.
func (s *server) dockerRuntime(cluster, dir string) (runtime.Runtime, func(), error) {
	rt, err := docker.New(docker.Config{Cluster: cluster, Host: s.cfg.DockerHost, DataDir: dir, NodeIP: node.HostIP(), Log: s.log})
	if err != nil {
		return nil, nil, fmt.Errorf("reach the Docker Engine: %w", err)
	}
	return rt, func() { rt.Close() }, nil
}

// nodeName is what this node was called before, else the configured name, else the host's in the form that names take.
// Pods are bound to a name: under another one, the node would be told that none of its Pods are its own.
func (s *server) nodeName() (string, error) {
	path := filepath.Join(s.cfg.DataDir, nodeFile)
	known, err := os.ReadFile(path)
	name := strings.TrimSpace(string(known))
	switch {
	case name != "" && s.cfg.NodeName != "" && s.cfg.NodeName != name:
		return "", fmt.Errorf("this machine is node %s, to which its Pods are bound, and cannot become %s: leave out --node-name, or run with --cleanup and remove %s first", name, s.cfg.NodeName, s.cfg.DataDir)
	case name != "":
		return name, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the node's name: %w", err)
	}
	if name, err = s.firstName(); err != nil {
		return "", err
	}
	if err := replaceFile(path, []byte(name+"\n")); err != nil {
		return "", fmt.Errorf("record the node's name: %w", err)
	}
	return name, nil
}

func (s *server) firstName() (string, error) {
	if s.cfg.NodeName != "" {
		return s.cfg.NodeName, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the host has no name: give the node one by --node-name: %w", err)
	}
	return strings.ToLower(name), nil
}

// nodeFile holds the node's name.
const nodeFile = "node-name"

// clusterFile holds the cluster's id, for who cleans up without a server.
const clusterFile = "cluster"

// Cleanup removes from this machine's engine whatever the cluster in cfg.DataDir made there, and nothing else.
func Cleanup(ctx context.Context, cfg Config) error {
	if _, err := os.Stat(cfg.DataDir); err == nil {
		release, err := lockDir(cfg.DataDir)
		if err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
		defer release()
	}
	id, err := clusterID(ctx, cfg)
	if err != nil {
		return err
	}
	rt, err := docker.New(docker.Config{Cluster: id, Host: cfg.DockerHost, DataDir: filepath.Join(cfg.DataDir, "node"), Log: cfg.Log})
	if err != nil {
		return fmt.Errorf("reach the Docker Engine: %w", err)
	}
	defer rt.Close()
	if err := rt.Cleanup(ctx); err != nil {
		return fmt.Errorf("clean up after cluster %s: %w", id, err)
	}
	cfg.Log.Info("removed all that the cluster made on this machine", "cluster", id)
	return nil
}

// clusterID finds out which cluster lives in the data directory; where none does, which one the repository describes.
func clusterID(ctx context.Context, cfg Config) (string, error) {
	if id, err := os.ReadFile(filepath.Join(cfg.DataDir, clusterFile)); err == nil && len(id) > 0 {
		return strings.TrimSpace(string(id)), nil
	}
	if cfg.Git.Repo == "" {
		return "", fmt.Errorf("there is no cluster in %s: give another --data-dir, or, if its data is lost, the --repo it followed", cfg.DataDir)
	}
	declared, err := gitsync.ReadCluster(ctx, cfg.Git)
	if err != nil {
		return "", err
	}
	return gitsync.ClusterID(cfg.Git, declared), nil
}
