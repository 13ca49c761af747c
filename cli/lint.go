package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/object"
)

// lintOptions are what `lint` was asked for.
type lintOptions struct {
	output *format
}

func lintCommand() *cobra.Command {
	o := &lintOptions{}
	cmd := &cobra.Command{
		Use:     "lint [PATH]",
		GroupID: GroupCommit,
		Short:   "Check manifests without a cluster",
		Long: `Checks the manifests in a directory exactly as a cluster would that is given them in a commit, and prints every problem as a
compiler does. It needs no cluster. PATH is what is or will be the server's --path; the default is the current directory.
Files that Git ignores are left out.

Exits with 0 if a cluster would accept the manifests, with 1 if it would reject them.`,
		Example: `  mainstay lint
  mainstay lint deploy/production
  mainstay lint -o json | jq -r '.problems[].path' | sort -u`,
		Args: AtMostOneArg("the directory to check"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, append(args, ".")[0]) },
	}
	o.output = addOutput(cmd)
	return cmd
}

// LintReport is the output of `lint -o json`, which is stable.
type LintReport struct {
	Files    int              `json:"files,omitempty"`   // manifests read; left out if there are problems
	Objects  int              `json:"objects,omitempty"` // likewise
	Problems []object.Problem `json:"problems"`
}

func (o *lintOptions) run(cmd *cobra.Command, path string) error {
	tree, err := worktree(path, path)
	if err != nil {
		return err
	}
	var loader load.Loader
	set, problems, err := loader.Load(cmd.Context(), tree)
	if err != nil {
		return err
	}
	report := LintReport{Problems: append([]object.Problem{}, problems...)}
	if len(problems) == 0 {
		report.Files, report.Objects = set.Files, len(set.Objects)
	}
	if err := o.print(cmd, report); err != nil {
		return err
	}
	if len(problems) > 0 {
		return errSaidNo
	}
	return nil
}

func (o *lintOptions) print(cmd *cobra.Command, report LintReport) error {
	out := cmd.OutOrStdout()
	if o.output.isData() {
		return o.output.write(out, report)
	}
	printProblems(out, "", report.Problems, len(report.Problems))
	if n := len(report.Problems); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", paint(cmd.ErrOrStderr(), red, plural(n, "problem")))
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %s in %s, no problems\n", paint(cmd.ErrOrStderr(), green, "✓"), plural(report.Objects, "object"), plural(report.Files, "file"))
	return nil
}
