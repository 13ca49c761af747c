package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/object"
)

// waitOptions are what `wait` was asked for.
type waitOptions struct {
	connection
	commit  string
	timeout time.Duration
}

// defaultWait is as long as Kubernetes gives a Deployment to make progress: what has not converged by then has Failed.
const defaultWait = 10 * time.Minute

func waitCommand() *cobra.Command {
	o := &waitOptions{}
	cmd := &cobra.Command{
		Use:     "wait [--commit COMMIT]",
		GroupID: GroupCommit,
		Short:   "Wait until a commit runs",
		Long: `Waits until the cluster has taken in a commit and everything in it runs. The commit may be pushed later: it need not be
known yet. Without --commit it is the HEAD of the Git repository here or, outside of one, the head of the branch as the cluster
knows it now. Exits with

  0  it converged: all it declares runs
  1  it was rejected, failed, or superseded by another commit, perhaps before it was taken in; says why
  2  --timeout passed, or the server cannot be asked; says what was still missing`,
		Example: `  git push && mainstay wait
  mainstay wait --commit 3f2a9c1 --timeout 5m`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.commit, "commit", "", "the `COMMIT`: a hash or the beginning of one, or a ref of the repository here (default HEAD)")
	cmd.Flags().DurationVar(&o.timeout, "timeout", defaultWait, "how long to wait at most; 0 is for ever")
	return cmd
}

func (o *waitOptions) run(cmd *cobra.Command) error {
	if o.timeout < 0 {
		return errors.New("--timeout cannot be negative; 0 is for ever")
	}
	hash, err := o.hash()
	if err != nil {
		return err
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if hash == "" {
		if hash, err = headOfCluster(ctx, c); err != nil {
			return err
		}
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
	}
	w := &waiter{hash: hash, revisions: map[string]*object.Revision{}, unseen: 2, progress: progress{w: cmd.ErrOrStderr()}}
	err = w.run(ctx, c)
	w.progress.clear()
	switch {
	case errors.Is(err, errDecided):
		return w.answer(cmd.OutOrStdout(), time.Now())
	case errors.Is(err, errTimeout):
		return fmt.Errorf("%s has not converged within %s: %s", short(hash), o.timeout, w.missing())
	}
	return err
}

var (
	errTimeout = errors.New("the time given by --timeout has passed")
	errDecided = errors.New("the commit's fate is known")

	hashPattern = regexp.MustCompile(`^[0-9a-fA-F]{4,64}$`)
)

// hash makes a hash, perhaps only the beginning of one, of what the user typed, or of where the branch stands here. It is "" if
// that is for the cluster to say. What stands here comes first: just after a push, the cluster may still know the commit before.
func (o *waitOptions) hash() (string, error) {
	if hashPattern.MatchString(o.commit) {
		return strings.ToLower(o.commit), nil
	}
	hash, err := resolveRef(cmp.Or(o.commit, "HEAD"))
	if o.commit == "" && errors.Is(err, git.ErrRepositoryNotExists) {
		return "", nil
	}
	return hash, err
}

// headOfCluster is the head of the branch as the cluster knows it.
func headOfCluster(ctx context.Context, c *client) (string, error) {
	cluster, err := clusterOf(ctx, c, nil)
	if err == nil && cluster.Status.Head == "" {
		err = errors.New("the cluster has not seen any commit yet: say which to wait for by --commit COMMIT; `mainstay status` says more")
	}
	return cluster.Status.Head, err
}

// waiter knows what the server has said so far of the commit. Its feeds take turns, so it needs no lock.
type waiter struct {
	hash      string
	revisions map[string]*object.Revision // by name
	cluster   object.Cluster
	unseen    int    // kinds of which not everything that existed at first has been seen
	first     string // the head when the wait began
	checked   string // the head of which it is known that the commit does not come before it
	parted    bool   // the branch went on during the wait, to a head that the commit does not contain
	progress  progress
}

// run follows revisions and the cluster's view of its repository until the commit's fate is known: errDecided.
func (w *waiter) run(ctx context.Context, c *client) error {
	g, ctx := errgroup.WithContext(ctx)
	changes := make(chan change)
	for _, k := range []object.Kind{object.KindFor[*object.Revision](), object.KindFor[*object.Cluster]()} {
		g.Go(func() error { return c.followAll(ctx, k, changes) })
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case ch := <-changes:
				if err := w.take(ch); err != nil {
					return err
				}
			}
		}
	})
	return g.Wait()
}

// take notes a change and decides, once all that existed at first has been seen.
func (w *waiter) take(ch change) error {
	switch obj := ch.object.(type) {
	case *object.Revision:
		w.revisions[obj.Name] = obj
		if ch.deleted {
			delete(w.revisions, obj.Name)
		}
	case *object.Cluster:
		w.cluster = *obj
	}
	if ch.synced {
		w.unseen--
	}
	if w.unseen > 0 {
		return nil
	}
	w.first = cmp.Or(w.first, w.cluster.Status.Head)
	found := w.matches()
	if len(found) > 1 {
		return fmt.Errorf("%s is the beginning of several commits: %s", w.hash, strings.Join(hashes(found), ", "))
	}
	if len(found) == 1 && found[0].Status.Phase != object.RevisionActive && found[0].Status.Phase != "" {
		return errDecided
	}
	if len(found) == 0 && w.wasPassedOver() {
		return errDecided
	}
	w.progress.say("Waiting for " + short(w.hash) + ": " + w.missing())
	return nil
}

// wasPassedOver reports whether the branch went past the commit before the cluster looked: of commits that come in a burst only
// the last is taken in.
func (w *waiter) wasPassedOver() bool {
	s := w.cluster.Status
	if s.Head == "" || s.Head == w.checked {
		return false
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(w.revisions)), func(r *object.Revision) bool { return r.Spec.Commit == s.Head }) {
		return false // what comes before the head may still be on its way
	}
	w.checked = s.Head // once for each: it may have to walk a long way
	if leadsTo(w.hash, s.Head, s.Branch) {
		return true
	}
	// At first, the head may be one that a forced push of the commit is about to replace.
	w.parted = s.Head != w.first && lacks(w.hash, s.Head)
	return w.parted
}

// matches are the revisions that the hash may mean.
func (w *waiter) matches() []*object.Revision {
	var found []*object.Revision
	for _, name := range sortedKeys(w.revisions) {
		if strings.HasPrefix(w.revisions[name].Spec.Commit, w.hash) {
			found = append(found, w.revisions[name])
		}
	}
	return found
}

func hashes(revisions []*object.Revision) []string {
	var all []string
	for _, r := range revisions {
		all = append(all, r.Spec.Commit)
	}
	return all
}

// missing says why the commit has not converged yet.
func (w *waiter) missing() string {
	if found := w.matches(); len(found) == 1 {
		if m := found[0].Status.Message; m != "" {
			return oneLine(m)
		}
		return "it is active, and its workloads are starting"
	}
	s := w.cluster.Status
	switch {
	case w.unseen > 0:
		return "the server has not answered yet"
	case s.Error != "":
		return "the cluster has not seen it, since it cannot read its repository: " + oneLine(s.Error)
	case s.Head != "" && strings.HasPrefix(s.Head, w.hash):
		return "it is being read"
	case s.Head != "":
		return fmt.Sprintf("the cluster has not seen it; branch %s is at %s. Has it been pushed?", s.Branch, short(s.Head))
	}
	return "the cluster has not seen any commit yet"
}

// answer prints what became of the commit.
func (w *waiter) answer(out io.Writer, now time.Time) error {
	found := w.matches()
	if len(found) == 0 {
		fmt.Fprintf(out, "%s %s %s\n", paint(out, yellow, "✗"), short(w.hash), w.passedOver())
		return errSaidNo
	}
	r := found[0]
	commit := commitOf(r, w.cluster.Status.Revision)
	name := short(r.Spec.Commit) + " " + quoted(r.Spec.Subject)
	switch r.Status.Phase {
	case object.RevisionConverged:
		text := fmt.Sprintf("%s converged %s", name, since(r.Status.EndedAt, now)+" ago")
		if t := took(commit); t != "-" {
			text += ", " + t + " after it became active"
		}
		if !commit.InForce {
			text += "; another commit is in force now"
		}
		fmt.Fprintf(out, "%s %s\n", paint(out, green, "✓"), text)
		return nil
	case object.RevisionRejected:
		fmt.Fprintf(out, "%s %s was rejected:\n", paint(out, red, "✗"), name)
		printProblems(out, "", r.Status.Problems, commit.Total)
	case object.RevisionSuperseded:
		fmt.Fprintf(out, "%s %s was superseded%s before it converged\n", paint(out, yellow, "✗"), name, w.successor(r))
	default:
		fmt.Fprintf(out, "%s %s failed: %s\n", paint(out, red, "✗"), name, oneLine(r.Status.Message))
	}
	return errSaidNo
}

// passedOver says why the commit has no revision and will get none.
func (w *waiter) passedOver() string {
	head := short(w.cluster.Status.Head)
	if w.parted {
		return fmt.Sprintf("was not taken in, and branch %s went on to %s, which is not in its history: `git fetch` shows whether %s has it; if not, it needs a rebase or a merge",
			w.cluster.Status.Branch, head, head)
	}
	return fmt.Sprintf("was superseded by %s before it was taken in: `mainstay wait --commit %s` waits for that one", head, head)
}

// successor names the revision that took r's place, if it is still known.
func (w *waiter) successor(r *object.Revision) string {
	var later []*object.Revision
	for _, other := range w.revisions {
		if other.Spec.Sequence > r.Spec.Sequence && other.Status.Phase != object.RevisionRejected {
			later = append(later, other)
		}
	}
	if len(later) == 0 {
		return ""
	}
	next := slices.MaxFunc(later, newestFirst)
	return " by " + short(next.Spec.Commit) + " " + quoted(next.Spec.Subject)
}

// printProblems prints problems as a compiler does, and how many are not among them.
func printProblems(w io.Writer, indent string, problems []object.Problem, total int) {
	for _, p := range problems {
		fmt.Fprintln(w, indent+problemLine(p))
	}
	if left := total - len(problems); left > 0 {
		fmt.Fprintf(w, "%s… and %d more: `mainstay lint` in the repository shows all\n", indent, left)
	}
}
