package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server"
)

// agentCommand runs a node.
func agentCommand() *cobra.Command {
	cfg := server.AgentConfig{Version: cli.Build().Version}
	var logs logging
	var cleanup bool
	var nodeIP string
	cmd := &cobra.Command{
		Use:     "agent --server HOST:PORT[,HOST:PORT]",
		GroupID: cli.GroupRun,
		Short:   "Run this machine's containers for a cluster",
		Long: `Makes this machine a node: it runs the Pods that the cluster's servers bind to it, on the local Docker Engine.

The first time it needs a token, made on a server by "mainstay token create --role agent". From then on it knows the
cluster by the certificates in its data directory, learns of further servers by itself, and renews its certificate.
Without servers, and when it is stopped itself, containers keep running.`,
		Example: `  mainstay agent --server control.example.com:7443 --token mainstay1.…    the first time
  mainstay agent --server control.example.com:7443                        ever after
  mainstay agent --cleanup                   remove all that Mainstay made on this machine, and be no node any more`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg.Log = logs.logger(os.Stderr)
			if cleanup {
				return server.CleanupAgent(cmd.Context(), cfg)
			}
			if len(cfg.Servers) == 0 {
				return errors.New("say where a server is: --server HOST:PORT")
			}
			if cfg.NodeIP, err = parseNodeIP(nodeIP); err != nil {
				return err
			}
			return server.Agent(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	addAgentFlags(f, &cfg)
	f.StringVar(&nodeIP, "node-ip", "", "address of this machine that the cluster reaches it by (default: the one it reaches the servers from)")
	logs.addFlag(f)
	f.BoolVar(&cleanup, "cleanup", false, "remove every container, network and firewall rule that the cluster made here, and this node's identity, then exit")
	return cmd
}

// parseNodeIP reads an address; none is none.
func parseNodeIP(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("--node-ip must be an address of this machine, not %q", text)
	}
	return address, nil
}

// addAgentFlags adds the flags that are taken as they are given.
func addAgentFlags(f *pflag.FlagSet, cfg *server.AgentConfig) {
	f.StringSliceVar(&cfg.Servers, "server", nil, "`HOST:PORT` of one or more servers; the others are learned")
	f.StringVar(&cfg.Token, "token", "", "what lets this machine join, the first time; better given as $MAINSTAY_TOKEN, where no process list shows it")
	f.StringVar(&cfg.DataDir, "data-dir", cli.DefaultDataDir(), "where the node's state is kept")
	f.StringVar(&cfg.DockerHost, "docker-host", "", "address of the Docker Engine (default: $DOCKER_HOST, else its standard socket)")
	f.StringVar(&cfg.NodeName, "node-name", "", "name of this node (default: the host's name)")
}
