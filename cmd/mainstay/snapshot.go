package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
	"github.com/mainstay-cluster/mainstay/server/backup"
)

// What a snapshot holds and what it does not, as help and inspect say it.
var (
	snapshotHolds = []string{
		"the store: what Git declares with Secrets' values, history, join tokens (hashed), Events",
		"the authority's certificate and key: nodes and readers go on trusting the cluster",
	}
	snapshotLacks = []string{
		"the repository: it is read anew",
		"containers, images and volumes: they are on the nodes",
		"nodes' own keys and names: they are in the nodes' data directories",
	}
)

// snapshotCommand saves, shows and restores backups.
func snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "snapshot",
		GroupID: cli.GroupRun,
		Short:   "Save, inspect and restore a backup of the cluster's store and authority",
		Long: `Saves, inspects and restores a backup of what a server knows beyond the repository.

The repository is enough to rebuild a cluster; with a snapshot the rebuilt cluster also has its authority, so that nodes need
no new token, its tokens and its history. Who has the file is the cluster: it holds the authority's key and the values of
Secrets. It is made readable by its owner only; keep it so.`,
		Example: `  mainstay snapshot save /backup/prod.mainstay          on a server, as root
  mainstay snapshot inspect /backup/prod.mainstay
  mainstay snapshot restore /backup/prod.mainstay       on a new machine, then mainstay server or up`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(snapshotSaveCommand(), snapshotInspectCommand(), snapshotRestoreCommand())
	return cmd
}

func snapshotSaveCommand() *cobra.Command {
	var admin server.Admin
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Save a snapshot of the running server to a file",
		Long: `Saves all that was acknowledged before it was called, while the server goes on. The file is read back before it takes its
name: FILE is the old one or a whole new one, whatever happens. Run it on a server, as root or as the user the server runs as.`,
		Example: `  mainstay snapshot save /backup/prod.mainstay
  mainstay snapshot save "/backup/prod-$(date +%F).mainstay"`,
		Args: cli.OneArg("the FILE of the snapshot"),
		RunE: func(cmd *cobra.Command, args []string) error {
			saved, err := admin.SaveSnapshot(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "saved cluster %s at version %d to %s (%d bytes, mode 0600: it holds secrets)\n",
				saved.Header.Cluster, saved.Header.Version, args[0], saved.Size)
			return nil
		},
	}
	onServer(cmd.Flags(), &admin)
	return cmd
}

func snapshotInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Check every byte of a snapshot and show what is in it; never a secret",
		Example: `  mainstay snapshot inspect /backup/prod.mainstay
  mainstay snapshot inspect /backup/prod.mainstay -o json`,
		Args: cli.OneArg("the FILE of the snapshot"),
	}
	output := cli.AddOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := server.OpenSnapshot(args[0])
		if err != nil {
			return err
		}
		found := contents{Header: b.Header, Size: b.Size, Objects: b.Counts(), Holds: snapshotHolds, Lacks: snapshotLacks}
		return output.Write(cmd.OutOrStdout(), found, found.print)
	}
	return cmd
}

// contents is what inspect says of a file.
type contents struct {
	backup.Header
	Size    int64          `json:"size"`
	Objects map[string]int `json:"objects"`
	Holds   []string       `json:"holds"`
	Lacks   []string       `json:"lacks"`
}

func (c contents) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Cluster:\t%s\nSaved:\t%s by Mainstay %s\nVersion:\t%d (log index %d)\n", c.Cluster, c.Created.Format(time.RFC3339), c.Mainstay, c.Version, c.Index)
	fmt.Fprintf(w, "Repository:\t%s\nRevision:\t%s\nSize:\t%d bytes, whole\n", strings.TrimSpace(c.Repo+" "+c.Branch+" "+c.Path), c.Revision, c.Size)
	for i, kind := range slices.Sorted(maps.Keys(c.Objects)) {
		fmt.Fprintf(w, "%s\t%d %s\n", onFirst(i, "Objects:"), c.Objects[kind], kind)
	}
	for i, what := range c.Holds {
		fmt.Fprintf(w, "%s\t%s\n", onFirst(i, "Holds:"), what)
	}
	for i, what := range c.Lacks {
		fmt.Fprintf(w, "%s\t%s\n", onFirst(i, "Lacks:"), what)
	}
	return w.Flush()
}

// onFirst is a label for the first of several lines.
func onFirst(i int, label string) string {
	if i == 0 {
		return label
	}
	return ""
}

func snapshotRestoreCommand() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the data directory of a single server from a snapshot",
		Long: `Makes a fresh data directory from a snapshot, for a single server. A directory that is in use or not empty is refused.

Then start "mainstay server" or "mainstay up" on it as before: it reads the repository, takes in what the nodes run, and brings
the cluster to the branch's head; what is wanted and runs is not restarted. Until the repository is read, nothing is started
or stopped. Clients that watch are told that their versions are gone, and list anew. The server whose place it takes must
never run again.`,
		Example: `  mainstay snapshot restore /backup/prod.mainstay
  mainstay snapshot restore /backup/prod.mainstay --data-dir /srv/mainstay
  mainstay up --repo /srv/deploy --data-dir /srv/mainstay`,
		Args: cli.OneArg("the FILE of the snapshot"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := server.Restore(cmd.Context(), args[0], dataDir, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "restored cluster %s in %s from version %d, saved %s\nnow start the server on it as before, with the same --repo\n",
				b.Header.Cluster, dataDir, b.Header.Version, b.Header.Created.Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", cli.DefaultDataDir(), "the data directory to make: empty, or missing")
	return cmd
}
