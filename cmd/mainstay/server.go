package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
)

// serverCommand runs a member of the control plane.
func serverCommand() *cobra.Command {
	cfg := server.Config{Version: cli.Build().Version}
	var logs logging
	cmd := &cobra.Command{
		Use:     "server --repo PATH|URL | --join HOST:PORT --token TOKEN",
		GroupID: cli.GroupRun,
		Short:   "Run a member of the control plane on this machine; nodes join it by mainstay agent",
		Long: `Runs a member of the control plane, without a node: it follows the repository, decides what runs where, and answers the API.
Machines that are to run containers join it by "mainstay agent" with a token made here.

The first server begins a cluster. Others join it, by --join with the address of any server and a token made there by
"mainstay token create --role server": three outlive the loss of one, five of two. Started again, by the same command, a
server is who it was. A server that does not say which repository to follow follows the one that the cluster follows when it joins.

It writes a kubeconfig to <data-dir>/kubeconfig, and is administered through <data-dir>/admin.sock, by root and its own
user only.`,
		Example: `  mainstay server --repo https://git.example.com/ops/deploy.git
  mainstay server --repo git@git.example.com:ops/deploy.git --advertise control.example.com:7443
  mainstay token create --role agent         on the same machine: what nodes join with
  mainstay token create --role server        what further servers join with
  mainstay server --join control.example.com:7443 --token mainstay1.…
  mainstay server list                       the servers, which one leads, how far each is
  mainstay server remove control-2-r5k0e     when it is not to come back`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Log, cfg.Git.Token = logs.logger(os.Stderr), os.Getenv(gitToken)
			return server.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	addServerFlags(f, &cfg)
	addMemberFlags(f, &cfg)
	f.StringVar(&cfg.Listen, "listen", ":7443", "address of the API")
	f.StringVar(&cfg.Advertise, "advertise", "", "`HOST:PORT` by which agents, Pods and other servers reach this one (default: --listen, or this host's address)")
	logs.addFlag(f)
	cmd.AddCommand(serverListCommand(), serverRemoveCommand(), serverTransferCommand(), serverRecoverCommand())
	return cmd
}

// addMemberFlags say who a server is among the servers.
func addMemberFlags(f *pflag.FlagSet, cfg *server.Config) {
	f.StringSliceVar(&cfg.Join, "join", nil, "`HOST:PORT` of one or more servers to join, the first time")
	f.StringVar(&cfg.Token, "token", "", "what lets this server join, the first time; better given as $MAINSTAY_TOKEN, where no process list shows it")
	f.BoolVar(&cfg.NonVoter, "non-voter", false, "have everything and decide nothing: a server more to ask, and none that is needed")
	f.StringVar(&cfg.Name, "name", "", "what this server is called among the servers (default: the host's name, and something that no other has)")
}
