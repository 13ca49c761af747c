package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
)

// caCommand rotates the cluster's certificate authority.
func caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ca",
		GroupID: cli.GroupRun,
		Short:   "Rotate the cluster's certificate authority, without an outage",
		Long: `Rotates the certificate authority by which servers, nodes and kubeconfigs of the cluster know each other. Nothing is interrupted:

  1. rotate   makes a new authority, which signs every certificate from then on. The former one certifies it and is still
              trusted, so it does not matter who hears of it first; the former one's key is forgotten. Servers take it over at
              once; nodes renew their certificates by themselves, weeks early, within a minute.
  2. status   says who has not moved over yet.
  3. finish   ends the trust in the former authority. It refuses as long as that would cut somebody off, and says whom.

What finish ends beside: join tokens made before rotate, and copies of kubeconfigs made before rotate. A server's own kubeconfig
is written anew by rotate; hand it out again.

Run it on a server, as root or as the user the server runs as.`,
		Example: `  mainstay ca rotate
  mainstay ca status
  mainstay ca finish
  mainstay ca finish --leave-behind n7      a machine that is never to come back`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(caStatusCommand(), caRotateCommand(), caFinishCommand())
	return cmd
}

func caStatusCommand() *cobra.Command {
	var admin server.Admin
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which authority signs, and how far a rotation is",
		Example: `  mainstay ca status
  mainstay ca status -o json`,
		Args: cli.NoArgs,
	}
	onServer(cmd.Flags(), &admin)
	output := cli.AddOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := admin.Authority(cmd.Context())
		if err != nil {
			return err
		}
		return output.Write(cmd.OutOrStdout(), status, func(w io.Writer) error { return printAuthority(w, status, time.Now()) })
	}
	return cmd
}

func caRotateCommand() *cobra.Command {
	var admin server.Admin
	cmd := &cobra.Command{
		Use:     "rotate",
		Short:   "Make a new authority, which signs from then on; the former one stays trusted",
		Example: `  mainstay ca rotate`,
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := admin.RotateAuthority(cmd.Context())
			if err != nil {
				return err
			}
			return printAuthority(cmd.OutOrStdout(), status, time.Now())
		},
	}
	onServer(cmd.Flags(), &admin)
	return cmd
}

func caFinishCommand() *cobra.Command {
	var admin server.Admin
	var leave []string
	cmd := &cobra.Command{
		Use:   "finish",
		Short: "End the trust in the former authority; refused while that would cut somebody off",
		Example: `  mainstay ca finish
  mainstay ca finish --leave-behind n7,n8`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := admin.FinishRotation(cmd.Context(), leave)
			if err != nil {
				return err
			}
			return printAuthority(cmd.OutOrStdout(), status, time.Now())
		},
	}
	onServer(cmd.Flags(), &admin)
	cmd.Flags().StringSliceVar(&leave, "leave-behind", nil, "`NAME` of nodes and servers that may be cut off: a node joins again by a new token, a server is removed and joins again")
	return cmd
}

// printAuthority says where a rotation stands, and what to do next.
func printAuthority(w io.Writer, s server.AuthorityStatus, now time.Time) error {
	fmt.Fprintf(w, "Authority  %s, until %s\n", s.Authority, s.Expires.UTC().Format(time.DateOnly))
	if s.Since == nil {
		_, err := fmt.Fprintln(w, "Rotation   none under way; `mainstay ca rotate` begins one")
		return err
	}
	fmt.Fprintf(w, "Former     %s, still trusted; rotating for %s\n", s.Former, max(0, now.Sub(*s.Since)).Round(time.Second))
	fmt.Fprintf(w, "Moved      %d of %d servers and nodes\n", s.Servers+s.Nodes-len(s.Waiting), s.Servers+s.Nodes)
	if len(s.Waiting) > 0 {
		fmt.Fprintln(w)
		table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprintln(table, "WAITING FOR\tROLE\tWHY")
		for _, m := range s.Waiting {
			fmt.Fprintf(table, "%s\t%s\t%s\n", m.Name, m.Role, m.Why)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w, "\nOnce nobody is waited for: mainstay ca finish")
		return err
	}
	if s.Tokens > 0 {
		fmt.Fprintf(w, "Tokens     %d made before; finish ends them: see mainstay token list\n", s.Tokens)
	}
	_, err := fmt.Fprintln(w, "\nNobody needs the former authority: `mainstay ca finish` ends the trust in it, in older tokens and in older copies of kubeconfigs")
	return err
}
