package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/object"
)

// historyOptions are what `history` was asked for.
type historyOptions struct {
	connection
	output *format
	limit  int
}

func historyCommand() *cobra.Command {
	o := &historyOptions{}
	cmd := &cobra.Command{
		Use:     "history",
		GroupID: GroupCommit,
		Short:   "List the commits the cluster has taken in, the newest first",
		Long: `Lists revisions: the commits that the cluster has taken in, the newest first, and what became of each.

The one in force has a star. +, ~ and - count the objects it created, changed and deleted; a rejected commit shows its
number of problems instead, which ` + "`mainstay describe revision COMMIT`" + ` lists.`,
		Example: `  mainstay history
  mainstay history --limit 5
  mainstay history -o json | jq -r '.[] | select(.phase == "Failed") | .commit'`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.addFlags(cmd)
	o.output = addOutput(cmd)
	cmd.Flags().IntVar(&o.limit, "limit", 0, "only the newest `N`; 0 is all that are kept")
	return cmd
}

// Commit is a revision in the output of history and status. Its JSON is stable.
type Commit struct {
	Name      string           `json:"name"`
	Commit    string           `json:"commit"`
	Subject   string           `json:"subject"`
	Author    string           `json:"author"`
	Branch    string           `json:"branch,omitempty"`
	Phase     string           `json:"phase"`
	Message   string           `json:"message,omitempty"`
	InForce   bool             `json:"inForce"`
	Time      metav1.Time      `json:"time"` // when it was committed
	Fetched   *metav1.Time     `json:"fetched,omitempty"`
	Activated *metav1.Time     `json:"activated,omitempty"`
	Ended     *metav1.Time     `json:"ended,omitempty"`
	Created   int32            `json:"created"`
	Changed   int32            `json:"changed"`
	Deleted   int32            `json:"deleted"`
	Untouched int32            `json:"untouched"`
	Problems  []object.Problem `json:"problems,omitempty"`      // the first ones
	Total     int              `json:"problemsTotal,omitempty"` // of Problems
}

func commitOf(r *object.Revision, inForce string) Commit {
	s := r.Status
	return Commit{
		Name: r.Name, Commit: r.Spec.Commit, Subject: r.Spec.Subject, Author: r.Spec.Author, Branch: r.Spec.Branch,
		Phase: s.Phase, Message: s.Message, InForce: r.Name == inForce,
		Time: r.Spec.CommitTime, Fetched: s.FetchedAt, Activated: s.ActivatedAt, Ended: s.EndedAt,
		Created: s.Created, Changed: s.Changed, Deleted: s.Deleted, Untouched: s.Untouched,
		Problems: s.Problems, Total: problemCount(r),
	}
}

func (o *historyOptions) run(cmd *cobra.Command) error {
	if o.limit < 0 {
		return errors.New("--limit cannot be negative; 0 is all that are kept")
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	revisions, _, err := list[*object.Revision](cmd.Context(), c, "", nil)
	if err != nil {
		return err
	}
	cluster, err := clusterOf(cmd.Context(), c, nil)
	if err != nil {
		return err
	}
	slices.SortFunc(revisions, newestFirst)
	if o.limit > 0 {
		revisions = revisions[:min(o.limit, len(revisions))]
	}
	commits := []Commit{}
	for _, r := range revisions {
		commits = append(commits, commitOf(r, cluster.Status.Revision))
	}
	if o.output.isData() {
		return o.output.write(cmd.OutOrStdout(), commits)
	}
	if len(commits) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "The cluster has taken in no commit yet; `mainstay status` says why.")
		return nil
	}
	return printHistory(cmd.OutOrStdout(), commits, time.Now())
}

func newestFirst(a, b *object.Revision) int {
	return cmp.Or(cmp.Compare(b.Spec.Sequence, a.Spec.Sequence), b.CreationTimestamp.Compare(a.CreationTimestamp.Time))
}

func printHistory(w io.Writer, commits []Commit, now time.Time) error {
	rows := [][]cell{plain("  COMMIT", "PHASE", "AGE", "TOOK", "AUTHOR", "OBJECTS", "SUBJECT")}
	for _, c := range commits {
		star := "  "
		if c.InForce {
			star = "* "
		}
		row := plain(star+short(c.Commit), c.Phase, since(c.Fetched, now), took(c), authorName(c.Author), counts(c), oneLine(c.Subject))
		row[1].colour = phaseColour(c.Phase)
		rows = append(rows, row)
	}
	return writeGrid(w, "", rows)
}

// counts is what the commit did: "+2 ~1 -0", or how many problems kept it from doing anything.
func counts(c Commit) string {
	if c.Phase == object.RevisionRejected {
		return plural(c.Total, "problem")
	}
	return fmt.Sprintf("+%d ~%d -%d", c.Created, c.Changed, c.Deleted)
}

func since(t *metav1.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// took is how long it took from activation until everything ran.
func took(c Commit) string {
	if c.Phase != object.RevisionConverged || c.Activated == nil || c.Ended == nil {
		return "-"
	}
	return shortDuration(c.Ended.Sub(c.Activated.Time))
}

// shortDuration is for spans in which tenths of seconds matter; stored times are whole seconds, so that less is "<1s".
func shortDuration(d time.Duration) string {
	if d < time.Second {
		return "<1s"
	}
	return duration.HumanDuration(d)
}

func phaseColour(phase string) string {
	switch phase {
	case object.RevisionConverged:
		return green
	case object.RevisionActive:
		return yellow
	case object.RevisionRejected, object.RevisionFailed:
		return red
	}
	return faint
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
