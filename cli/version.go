package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

// versionOptions are what `version` was asked for.
type versionOptions struct {
	connection
	output *format
}

func versionCommand() *cobra.Command {
	o := &versionOptions{}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of the server",
		Long:  `Prints the version of this program and, if a cluster can be reached, of its server.`,
		Example: `  mainstay version
  mainstay version -o json`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.addFlags(cmd)
	o.output = addOutput(cmd)
	return cmd
}

// Versions is the output of `version -o json`, which is stable.
type Versions struct {
	Client BuildInfo  `json:"client"`
	Server *BuildInfo `json:"server,omitempty"`
}

// BuildInfo says what a program was built from.
type BuildInfo struct {
	Version  string `json:"version"`          // of Mainstay; of a server also the Kubernetes API it speaks
	Commit   string `json:"commit,omitempty"` // of Mainstay's own repository
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Build says what this program was built from. Version is that of a release, else Go's name for the commit, or (devel) if Go did not
// know of one.
func Build() BuildInfo {
	b := BuildInfo{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}

// versionTimeout is short: the server's version is an extra.
const versionTimeout = 3 * time.Second

func (o *versionOptions) run(cmd *cobra.Command) error {
	v := Versions{Client: Build()}
	server, unreached := o.server(cmd.Context())
	v.Server = server
	if o.output.isData() {
		return o.output.write(cmd.OutOrStdout(), v)
	}
	rows := [][]cell{versionRow("Client", v.Client)}
	if server != nil {
		rows = append(rows, versionRow("Server", *server))
	}
	if err := writeGrid(cmd.OutOrStdout(), "", rows); err != nil {
		return err
	}
	if unreached != nil && o.kubeconfig != "" {
		return unreached // asked for by name, so it is no extra
	}
	return nil
}

func versionRow(who string, b BuildInfo) []cell {
	version := b.Version
	if b.Commit != "" {
		version += " (" + short(b.Commit) + ")"
	}
	return plain(who, version, b.Go, b.Platform)
}

func (o *versionOptions) server(ctx context.Context) (*BuildInfo, error) {
	c, err := o.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, versionTimeout, errors.New("the server did not answer"))
	defer cancel()
	var answer struct {
		GitVersion string `json:"gitVersion"`
		GitCommit  string `json:"gitCommit"`
		GoVersion  string `json:"goVersion"`
		Platform   string `json:"platform"`
	}
	if err := c.get(ctx, request{path: "/version"}, &answer); err != nil {
		return nil, fmt.Errorf("ask the server for its version: %w", err)
	}
	return &BuildInfo{answer.GitVersion, answer.GitCommit, answer.GoVersion, answer.Platform}, nil
}
