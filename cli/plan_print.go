package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/mainstay-cluster/mainstay/plan"
)

// maxValue is how much of a field's value is shown, in characters: enough for an image with its digest.
const maxValue = 120

// printPlan prints what a commit would do, or what would reject it.
func printPlan(w io.Writer, r *plan.Report) error {
	switch {
	case len(r.Problems) > 0:
		printProblems(w, "", r.Problems, len(r.Problems))
		return nil
	case r.Empty():
		_, err := fmt.Fprintf(w, "%s Nothing would change: %s untouched%s.\n", paint(w, green, "✓"), plural(r.Counts.Untouched, "object"), moved(r.Counts))
		return err
	}
	if err := printChanges(w, r.Objects); err != nil {
		return err
	}
	rows := [][]cell{{{"Objects", cyan}, {objectCounts(r.Counts), ""}}, {{"Pods", cyan}, {podCounts(r.Pods), ""}}}
	if err := writeGrid(w, "", rows); err != nil {
		return err
	}
	return printPods(w, r.Pods)
}

// mark is how an action is shown: its sign, colour and, where the sign alone may be misread, a word.
type mark struct{ sign, colour, word string }

func markOf(a plan.Action) mark {
	switch a {
	case plan.Create:
		return mark{"+", green, ""}
	case plan.Delete:
		return mark{"-", red, ""}
	case plan.Replace:
		return mark{"±", yellow, " (stopped and made anew)"}
	}
	return mark{"~", yellow, ""}
}

// printChanges prints each object, and below it each of its fields that changes.
func printChanges(w io.Writer, changes []plan.ObjectChange) error {
	var heads [][]cell
	for _, c := range changes {
		m := markOf(c.Action)
		name := c.Kind + " " + strings.TrimPrefix(c.Namespace+"/"+c.Name, "/")
		heads = append(heads, []cell{{m.sign + " " + oneLine(name) + m.word, m.colour}, {whereOf(c), faint}})
	}
	aligned := gridLines(w, "", heads)
	for i, c := range changes {
		fmt.Fprintln(w, aligned[i])
		var rows [][]cell
		for _, f := range c.Fields {
			rows = append(rows, []cell{{oneLine(f.Path), ""}, {fieldText(f), ""}})
		}
		if err := writeGrid(w, "    ", rows); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		fmt.Fprintln(w)
	}
	return nil
}

func whereOf(c plan.ObjectChange) string {
	switch {
	case c.Path == "":
		return ""
	case c.Action == plan.Delete:
		return fmt.Sprintf("was at %s:%d", oneLine(c.Path), c.Line)
	}
	return fmt.Sprintf("%s:%d", oneLine(c.Path), c.Line)
}

func fieldText(f plan.FieldChange) string {
	before, after := fit(oneLine(f.Old), maxValue), fit(oneLine(f.New), maxValue)
	switch {
	case f.Old == "":
		return "set to " + after
	case f.New == "":
		return "removed (was " + before + ")"
	case f.Old == plan.Concealed && f.New == plan.Concealed:
		return "changes " + plan.Concealed
	}
	return before + " → " + after
}

func objectCounts(c plan.Counts) string {
	parts := []string{
		count(c.Created, "to create"), count(c.Changed, "to change"), count(c.Replaced, "to replace"), count(c.Deleted, "to delete"),
	}
	return joinCounts(parts, fmt.Sprintf("%d untouched%s", c.Untouched, moved(c)))
}

func moved(c plan.Counts) string {
	if c.Moved == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them moved in the repository", c.Moved)
}

func podCounts(p plan.PodReport) string {
	parts := []string{count(p.Created, "new"), count(p.Replaced, "replaced"), count(p.Deleted, "removed")}
	text := joinCounts(parts, fmt.Sprintf("%d kept", p.Kept))
	if p.Unschedulable > 0 {
		text += fmt.Sprintf("; %d would fit nowhere", p.Unschedulable)
	}
	return text
}

func count(n int, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, what)
}

// joinCounts joins the counts that are not empty, and rest.
func joinCounts(parts []string, rest string) string {
	var kept []string
	for _, p := range append(parts, rest) {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ", ")
}

// printPods says for each workload what becomes of its Pods, where new ones go, and why some fit nowhere.
func printPods(w io.Writer, pods plan.PodReport) error {
	var rows [][]cell
	var stuck []string
	for _, wl := range pods.Workloads {
		name := fmt.Sprintf("%s %s/%s", wl.Kind, wl.Namespace, wl.Name)
		parts := []string{count(wl.Created, "new"), count(wl.Replaced, "replaced"), count(wl.Deleted, "removed"), count(wl.Kept, "kept")}
		rows = append(rows, []cell{{name, ""}, {joinCounts(parts, ""), ""}, {nodesShare(wl.Nodes), ""}})
		for _, u := range wl.Unschedulable {
			stuck = append(stuck, fmt.Sprintf("%s: %s nowhere: %s", name, fits(u.Pods), oneLine(u.Reason)))
		}
	}
	if err := writeGrid(w, "  ", rows); err != nil {
		return err
	}
	for _, text := range stuck {
		fmt.Fprintf(w, "  %s %s\n", paint(w, red, "!"), text)
	}
	if pods.Unfinished != "" {
		fmt.Fprintf(w, "  %s %s\n", paint(w, yellow, "!"), oneLine(pods.Unfinished))
	}
	return nil
}

func fits(n int) string {
	if n == 1 {
		return "1 Pod fits"
	}
	return fmt.Sprintf("%d Pods fit", n)
}

func nodesShare(nodes []plan.NodeShare) string {
	var parts []string
	for _, n := range nodes {
		parts = append(parts, fmt.Sprintf("%s ×%d", n.Node, n.Pods))
	}
	if len(parts) == 0 {
		return ""
	}
	return "on " + strings.Join(parts, ", ")
}
