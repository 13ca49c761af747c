package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/spf13/cobra"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
)

// planPath is where the API makes plans.
const planPath = "/mainstay/v1/plan"

// planOptions are what `plan` was asked for.
type planOptions struct {
	connection
	output *format
	path   string
}

func planCommand() *cobra.Command {
	o := &planOptions{}
	cmd := &cobra.Command{
		Use:     "plan [REF|PATH]",
		GroupID: GroupCommit,
		Short:   "Show what a commit would do to the cluster",
		Long: `Shows what a commit would do to the cluster: objects created, changed field by field and deleted, the Pods that would be replaced
and kept, where new ones would go, and what fits nowhere. It writes nothing, and a Secret's values are never shown.

Without an argument the files of the Git worktree here are planned as they are, committed or not. REF is a branch, tag or commit of
the repository here. PATH is a directory: it stands for the directory that the cluster reads, so --path does not go with it. A name
that is both is the directory.

Exits with 0 if nothing would change, with 1 if something would, with 2 if it would be rejected or cannot be planned.`,
		Example: `  mainstay plan                     # before committing
  mainstay plan feature             # before merging
  mainstay plan HEAD~1              # what going back one commit would do
  mainstay plan ./deploy -o json`,
		Args: planArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, append(args, "")[0]) },
	}
	o.addFlags(cmd)
	o.output = addOutput(cmd)
	cmd.Flags().StringVar(&o.path, "path", "", "`DIR` of the repository that holds the manifests (default what the cluster reads)")
	return cmd
}

// planArgs is asked before the environment and --config set flags: a --path meant for other commands does not stand in a PATH's way.
func planArgs(cmd *cobra.Command, args []string) error {
	if err := AtMostOneArg("a REF or a PATH")(cmd, args); err != nil {
		return err
	}
	if len(args) == 1 && cmd.Flags().Changed("path") && isDirectory(args[0]) {
		return usageError(cmd, fmt.Errorf("--path goes with a REF or the worktree; %s stands for the directory itself", args[0]))
	}
	return nil
}

// planned is a tree of manifests and what to call it.
type planned struct {
	tree   load.Tree
	title  string
	commit *plumbing.Hash
}

func (o *planOptions) run(cmd *cobra.Command, arg string) error {
	ctx := cmd.Context()
	at, err := find(arg) // before the cluster is asked: a slip here is not about the cluster
	if err != nil {
		return err
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	cluster, err := clusterOf(ctx, c, nil)
	if err != nil {
		return err
	}
	what, err := at(o.where(cluster.Status.Path))
	if err != nil {
		return err
	}
	report, err := o.ask(ctx, c, what)
	if err != nil {
		return err
	}
	if err := o.print(cmd, report, what, cluster); err != nil {
		return err
	}
	switch {
	case len(report.Problems) > 0:
		return errRejected
	case report.Empty():
		return nil
	}
	return errSaidNo
}

// errRejected ends a plan whose problems have been printed.
var errRejected = errors.New("a cluster would reject this")

// where is the directory of the repository that holds the manifests, "" for its root: clusterPath unless --path says otherwise.
func (o *planOptions) where(clusterPath string) string {
	where := cmp.Or(o.path, clusterPath)
	return strings.Trim(path.Clean("/"+filepath.ToSlash(where)), "/")
}

// find finds what arg means. What it returns takes the manifests from there, once it is known which directory of the repository
// holds them.
func find(arg string) (func(where string) (planned, error), error) {
	switch {
	case arg == "":
		return findWorktree, nil
	case isDirectory(arg):
		return func(string) (planned, error) {
			tree, err := worktree(arg, "")
			return planned{tree: tree, title: "the files in " + arg}, err
		}, nil
	case strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, "."):
		return nil, fmt.Errorf("there is no directory %s", arg) // no commit is called like that
	}
	return findCommit(arg)
}

// findWorktree takes the worktree around the current directory, or just the directory if it is in none.
func findWorktree(where string) (planned, error) {
	root, err := worktreeRoot(".")
	if err != nil {
		return planned{}, err
	}
	title := "the worktree here"
	if root == "" {
		root, title = ".", "the files in the current directory"
	}
	if where != "" {
		title += ", below " + where
	}
	dir := filepath.Join(root, filepath.FromSlash(where))
	if !isDirectory(dir) {
		return planned{}, fmt.Errorf("there is no directory %s: the cluster reads %q of its repository. Is this that repository? Else give a PATH", dir, where)
	}
	tree, err := worktree(dir, where)
	return planned{tree: tree, title: title}, err
}

func findCommit(ref string) (func(where string) (planned, error), error) {
	repo, err := openRepository()
	if err != nil {
		return nil, fmt.Errorf("%q is no directory, and %w", ref, err)
	}
	hash, err := resolve(repo, ref)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return nil, advice{fmt.Sprintf("%q is neither a directory nor a commit of the repository here", ref), err}
	}
	if err != nil {
		return nil, fmt.Errorf("%q is no directory, and %w", ref, err)
	}
	return func(where string) (planned, error) {
		tree, err := load.Git(repo.Storer, hash, where)
		if errors.Is(err, load.ErrNoPath) {
			return planned{}, fmt.Errorf("%s has no directory %q, which the cluster reads; --path names another", ref, where)
		}
		return planned{tree: tree, title: commitTitle(repo, hash), commit: &hash}, err
	}, nil
}

func commitTitle(repo *git.Repository, hash plumbing.Hash) string {
	commit, err := repo.CommitObject(hash)
	if err != nil {
		return short(hash.String())
	}
	subject, _, _ := strings.Cut(commit.Message, "\n")
	return short(hash.String()) + " " + quoted(subject)
}

// ask checks the manifests here, where links and modes can still be seen, and has the server plan them.
func (o *planOptions) ask(ctx context.Context, c *client, what planned) (*plan.Report, error) {
	report := &plan.Report{}
	var loader load.Loader
	_, problems, err := loader.Load(ctx, what.tree)
	if err != nil {
		return nil, err
	}
	if len(problems) == 0 {
		files, err := collect(ctx, what.tree)
		if err != nil {
			return nil, err
		}
		body := struct {
			Path  string            `json:"path,omitempty"`
			Files map[string][]byte `json:"files"`
		}{what.tree.Prefix(), files}
		if err := c.get(ctx, request{method: http.MethodPost, path: planPath, body: body}, report); err != nil {
			return nil, err
		}
	} else {
		report.Problems = problems
	}
	if what.commit != nil {
		report.Commit = what.commit.String()
	}
	return report, nil
}

func (o *planOptions) print(cmd *cobra.Command, report *plan.Report, what planned, cluster object.Cluster) error {
	if o.output.isData() {
		return o.output.write(cmd.OutOrStdout(), report)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s\n\n", paint(out, bold, "Plan of "+what.title))
	if err := printPlan(out, report); err != nil {
		return err
	}
	if cluster.Status.Error != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "Note: the cluster cannot read its repository now: %s\n", oneLine(cluster.Status.Error))
	}
	return nil
}
