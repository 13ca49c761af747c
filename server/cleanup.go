package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/node/dns"
	"github.com/mainstay-cluster/mainstay/node/docker"
	"github.com/mainstay-cluster/mainstay/node/policy"
	"github.com/mainstay-cluster/mainstay/node/proxy"
)

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
	if err := errors.Join(rt.Cleanup(ctx), proxy.Cleanup(ctx, id), policy.New(policy.Config{Cluster: id, Log: cfg.Log}).Cleanup(ctx), dns.NewStandby(id, "", cfg.Log).Cleanup(ctx)); err != nil {
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

// CleanupAgent is Cleanup for a machine that is a node alone. It removes the node's identity, too: the machine may then join
// any cluster, under any name.
func CleanupAgent(ctx context.Context, cfg AgentConfig) error {
	if _, err := os.Stat(filepath.Join(cfg.DataDir, identityDir)); err != nil {
		return fmt.Errorf("no agent has joined a cluster with the data directory %s: give another --data-dir, or, on a machine where the cluster was started, use mainstay up --cleanup", cfg.DataDir)
	}
	if err := Cleanup(ctx, Config{DataDir: cfg.DataDir, DockerHost: cfg.DockerHost, Log: cfg.Log}); err != nil {
		return err
	}
	for _, name := range []string{"node", nodeFile, serversFile, clusterFile, "lock", identityDir} { // the identity last, by which a second attempt goes on
		if err := os.RemoveAll(filepath.Join(cfg.DataDir, name)); err != nil {
			return fmt.Errorf("remove what the agent kept: %w", err)
		}
	}
	_ = os.Remove(cfg.DataDir) // stays if anything else is in it
	return nil
}
