// Command mainstay is the control plane, the node agent and the command line of Mainstay. Start at root.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mainstay-cluster/mainstay/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Execute(ctx, root(), os.Args[1:]))
}
