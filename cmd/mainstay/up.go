package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
)

// gitToken is where the token for a repository is looked for that no file holds.
const gitToken = "MAINSTAY_GIT_TOKEN"

// upCommand runs a whole cluster on this machine.
func upCommand() *cobra.Command {
	cfg := server.Config{Version: cli.Build().Version}
	var logs logging
	var cleanup bool
	cmd := &cobra.Command{
		Use:     "up --repo PATH|URL",
		GroupID: cli.GroupRun,
		Short:   "Run a cluster on this machine: server and agent in one process",
		Long: `Runs a whole cluster on this machine's Docker Engine, and keeps it true to the branch of a Git repository.

Stopping it stops no container; started again, it goes on where it was. If its data directory is lost, it rebuilds the
cluster from the repository and takes in the containers that run. It writes a kubeconfig to <data-dir>/kubeconfig.

Credentials for https:// are taken from --git-token-file or $MAINSTAY_GIT_TOKEN; for ssh:// from --git-ssh-key, ~/.ssh or
the SSH agent, and the host's key is always checked against known_hosts.`,
		Example: `  mainstay up --repo /srv/deploy
  mainstay up --repo https://git.example.com/ops/deploy.git --branch main --path clusters/prod
  mainstay up --repo git@git.example.com:ops/deploy.git --listen 0.0.0.0:7443
  mainstay up --cleanup                      remove all that Mainstay made on this machine's engine`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Log = logs.logger(os.Stderr)
			if cleanup {
				return server.Cleanup(cmd.Context(), cfg)
			}
			cfg.Git.Token = os.Getenv(gitToken)
			return server.Up(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	addServerFlags(f, &cfg)
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:7443", "address of the API")
	f.StringVar(&cfg.DockerHost, "docker-host", "", "address of the Docker Engine (default: $DOCKER_HOST, else its standard socket)")
	f.StringVar(&cfg.NodeName, "node-name", "", "name of this node (default: the host's name)")
	logs.addFlag(f)
	f.BoolVar(&cleanup, "cleanup", false, "remove every container, network and firewall rule that this cluster made here, then exit")
	return cmd
}

// addServerFlags are those of every process that follows a repository.
func addServerFlags(f *pflag.FlagSet, cfg *server.Config) {
	f.StringVar(&cfg.Git.Repo, "repo", "", "the repository to follow: a path, file://, http(s)://, ssh:// or user@host:path")
	f.StringVar(&cfg.Git.Branch, "branch", "", "the branch to follow (default: the repository's HEAD)")
	f.StringVar(&cfg.Git.Path, "path", "", "the directory in the repository that holds the manifests (default: all of it)")
	f.DurationVar(&cfg.Git.Poll, "poll", 15*time.Second, "how often to ask a remote repository for its head; local ones are watched")
	f.StringVar(&cfg.Git.TokenFile, "git-token-file", "", "file with the token for http(s)://, read anew at each use")
	f.StringVar(&cfg.Git.SSHKey, "git-ssh-key", "", "file with the private key for ssh://")
	f.StringVar(&cfg.Git.KnownHosts, "git-known-hosts", "", "file with the host keys to accept (default: ~/.ssh/known_hosts)")
	f.StringVar(&cfg.DataDir, "data-dir", cli.DefaultDataDir(), "where the cluster's state is kept")
}
