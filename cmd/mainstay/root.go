package main

import (
	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/cli"
)

// root is the whole command tree.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mainstay",
		Short: "Keep a cluster true to a Git repository",
		Long: `Mainstay keeps a cluster of Docker hosts true to a Git repository: what you push is what runs.

Everything here only reads: the cluster is changed through Git alone. Each flag can also be set by the
environment (--data-dir by MAINSTAY_DATA_DIR) and in a YAML file (--config).

Exit codes: 0 fine, 1 a negative answer (differences, rejected, failed, not found), 2 an error.`,
		Example: `  mainstay up --repo ~/deploy       run a cluster on this machine from that repository
  mainstay status                   what the branch says, what runs, what lies between them
  mainstay plan                     what the files here would change
  mainstay wait                     until what was pushed runs`,
		Version: cli.Build().Version,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddGroup(cli.Groups()...)
	cli.AddConfigFlag(cmd)
	cmd.AddCommand(upCommand(), serverCommand(), agentCommand(), tokenCommand(), caCommand(), snapshotCommand())
	cmd.AddCommand(cli.Commands()...)
	return cmd
}
