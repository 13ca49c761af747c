package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
	"github.com/mainstay-cluster/mainstay/server/join"
)

// tokenCommand makes, lists and revokes what machines join with, on the server's admin socket.
func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		GroupID: cli.GroupRun,
		Short:   "Make, list and revoke tokens by which machines join",
		Long: `Makes, lists and revokes tokens by which machines join the cluster. Run it on a server, as root or as the user the
server runs as: it speaks to the server's admin socket, <data-dir>/admin.sock, and nothing of this is in the API.

Who holds a good token of the role agent can make a machine a node, and so see what its Pods may see. One of the role server
hands over the cluster's authority: who holds it can be anybody in the cluster. Make it with --once, and give it to nobody else.`,
		Example: `  mainstay token create --role agent
  mainstay token create --role server --once
  mainstay token list
  mainstay token revoke k3x7qd2a`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var admin server.Admin
	onServer(cmd.PersistentFlags(), &admin)
	cmd.AddCommand(tokenCreateCommand(&admin), tokenListCommand(&admin), tokenRevokeCommand(&admin))
	return cmd
}

func tokenCreateCommand(admin *server.Admin) *cobra.Command {
	var wanted join.Wanted
	cmd := &cobra.Command{
		Use:   "create --role server|agent",
		Short: "Print a new token, alone",
		Example: `  mainstay token create --role agent --ttl 24h
  TOKEN=$(mainstay token create --role agent --once)`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if joinsBy[wanted.Role] == "" {
				return errors.New("say what the token is for: --role agent or --role server")
			}
			token, err := admin.CreateToken(cmd.Context(), wanted)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			if hint := cmd.ErrOrStderr(); isTerminal(hint) && isTerminal(cmd.OutOrStdout()) { // a script that takes the token knows
				fmt.Fprintln(hint, "# on the machine that is to join:  mainstay "+joinsBy[wanted.Role]+" HOST:7443 --token TOKEN")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&wanted.Role, "role", "", "what joins by it: agent (a node) or server")
	f.DurationVar(&wanted.TTL, "ttl", time.Hour, "how long it is good")
	f.BoolVar(&wanted.Once, "once", false, "good for a single machine")
	return cmd
}

// joinsBy is how who has a token of a role uses it.
var joinsBy = map[string]string{"agent": "agent --server", "server": "server --join"}

func tokenListCommand(admin *server.Admin) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens, the newest first; never their secrets",
		Example: `  mainstay token list
  mainstay token list -o json`,
		Args: cli.NoArgs,
	}
	output := cli.AddOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := admin.Tokens(cmd.Context())
		if err != nil {
			return err
		}
		return output.Write(cmd.OutOrStdout(), list, func(w io.Writer) error { return printTokens(w, list) })
	}
	return cmd
}

func printTokens(w io.Writer, list []join.Listed) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "ID\tROLE\tSTATE\tJOINED\tONCE\tEXPIRES")
	for _, t := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\n", t.ID, t.Role, t.State, t.Uses, yesNo[t.Once], t.Expires.Local().Format(time.DateTime))
	}
	return table.Flush()
}

func tokenRevokeCommand(admin *server.Admin) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "Make a token good for nothing more; machines that joined by it stay",
		Example: `  mainstay token revoke k3x7qd2a`,
		Args:    cli.OneArg("the ID of a token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := admin.RevokeToken(cmd.Context(), args[0])
			if err == nil && !known {
				err = fmt.Errorf("there is no token %s: `mainstay token list` shows those there are", args[0])
			}
			return err
		},
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
