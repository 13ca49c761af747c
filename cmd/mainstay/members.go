package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
)

// onServer adds the flag that says which server of this machine is meant.
func onServer(f *pflag.FlagSet, admin *server.Admin) {
	f.StringVar(&admin.DataDir, "data-dir", cli.DefaultDataDir(), "the server's data directory")
}

func serverListCommand() *cobra.Command {
	var admin server.Admin
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the servers: which one leads, whether each answers, how far each is",
		Long: `Lists the servers as the one on this machine knows them. It works without a majority, too. Run it on a server, as root or
as the user the server runs as.

LAG counts the entries of the log that a server lacks; LEVEL is the newest format level that its version reads, which matters
while servers are upgraded. A Pending server was let in by a token and is no member yet.`,
		Example: `  mainstay server list
  mainstay server list -o json`,
		Args: cli.NoArgs,
	}
	output := cli.AddOutput(cmd)
	onServer(cmd.Flags(), &admin)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list, err := admin.Servers(cmd.Context())
		if err != nil {
			return err
		}
		return output.Write(cmd.OutOrStdout(), list, func(out io.Writer) error { return printServers(out, list) })
	}
	return cmd
}

func printServers(out io.Writer, list []server.Member) error {
	if err := printTable(out, list); err != nil {
		return err
	}
	voters, reached := 0, 0
	for _, m := range list {
		if m.Role == server.Voter {
			voters++
			if m.Reached {
				reached++
			}
		}
	}
	if needed := voters/2 + 1; reached < needed {
		fmt.Fprintf(out, "\nNo quorum: %d of %d voters answer, %d are needed. Nothing can be changed; nodes run on with what they have.\n"+
			"Bring the others back. If they are lost for good: mainstay server recover --help\n", reached, voters, needed)
	}
	return nil
}

func printTable(out io.Writer, list []server.Member) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDRESS\tROLE\tLEADER\tREACHED\tLAG\tVERSION\tLEVEL")
	for _, m := range list {
		lag, level := "-", "-"
		if m.Reached {
			lag = fmt.Sprint(m.Lag)
		}
		if m.Level > 0 {
			level = fmt.Sprint(m.Level)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Address, m.Role, yesNo[m.Leader], yesNo[m.Reached], lag, m.Version, level)
	}
	return w.Flush()
}

// yesNo is how tables say whether.
var yesNo = map[bool]string{true: "yes", false: "no"}

func serverRemoveCommand() *cobra.Command {
	var admin server.Admin
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a server out of the cluster, for good",
		Long: `Takes a server out of the cluster, whether it runs or is lost. Its data directory is of no more use: to have that machine as a
server again, empty the directory and join anew. Run it on any server that stays, as root or as the user the server runs as.

It is refused if the servers that answer would not be a majority of those left, and for the server that leads: hand over
first, by "mainstay server transfer".`,
		Example: `  mainstay server remove control-2-r5k0e`,
		Args:    cli.OneArg("the NAME of a server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := admin.RemoveServer(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "server %s is removed; its data directory is of no more use\n", args[0])
			return nil
		},
	}
	onServer(cmd.Flags(), &admin)
	return cmd
}

func serverTransferCommand() *cobra.Command {
	var admin server.Admin
	cmd := &cobra.Command{
		Use:   "transfer [NAME]",
		Short: "Have another server lead: the one named, else the one that has most",
		Long: `Hands leadership to another server, e.g. before this machine goes down for maintenance. Nothing stops meanwhile. A server that
is stopped in good order hands over by itself. Run it on any server, as root or as the user the server runs as.`,
		Example: `  mainstay server transfer
  mainstay server transfer control-2-r5k0e`,
		Args: cli.AtMostOneArg("the NAME of a server"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) > 0 {
				to = args[0]
			}
			if err := admin.TransferLeadership(cmd.Context(), to); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "handed over; `mainstay server list` shows who leads now")
			return nil
		},
	}
	onServer(cmd.Flags(), &admin)
	return cmd
}

func serverRecoverCommand() *cobra.Command {
	var dataDir string
	var sure bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on with one server after a majority is lost for good",
		Long: `For the day on which more than half of the servers that vote are lost for good. It works on the data directory of a server that
is left and stopped, and makes it that of a cluster of this server alone; what it does not have is lost. Others join it anew.

Without --give-up-the-others it changes nothing: it asks the other servers, and says who answers and how far this one's log
goes. If several are left, recover the one with the highest index. It is refused where the servers that are there are a majority.

What it did is told by the Cluster's condition MajorityLost, an Event, and recoveries.log in the data directory. The servers given up
must not run again on their data: they are told so where they reach this one, but a majority of them would go on by itself.`,
		Example: `  mainstay server recover                            look, change nothing
  mainstay server recover --give-up-the-others       then start the server as before`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			step := server.SurveyServers
			if sure {
				step = server.Recover
			}
			found, err := step(cmd.Context(), dataDir, slog.New(slog.DiscardHandler))
			if len(found.Members) > 0 {
				_ = printTable(cmd.OutOrStdout(), found.Members)
				fmt.Fprintf(cmd.OutOrStdout(), "\nThis is server %s; the newest entry in its log is %d.\n", found.Server, found.Index)
			}
			if err != nil {
				return err
			}
			next := "Nothing was changed. To go on with this server alone: mainstay server recover --give-up-the-others"
			if sure {
				next = fmt.Sprintf("Recovered. Start this server as before; on the machines of the others (%s), move the data directories away, "+
					"and have them join anew.", strings.Join(found.Lost(), ", "))
			}
			fmt.Fprintln(cmd.OutOrStdout(), next)
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", cli.DefaultDataDir(), "the stopped server's data directory")
	cmd.Flags().BoolVar(&sure, "give-up-the-others", false, "do it: no other server is ever to run again on its data")
	return cmd
}
