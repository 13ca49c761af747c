package cli

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// sheet is a description: a label and a value per line.
type sheet struct{ strings.Builder }

// labelWidth leaves a space behind the longest label, Container-Runtime.
const labelWidth = 19

// row writes one line. Without a label it goes on with what the line above says.
func (s *sheet) row(label, format string, args ...any) {
	if label != "" {
		label += ":"
	}
	fmt.Fprintf(s, "%-*s%s\n", labelWidth, label, oneLine(fmt.Sprintf(format, args...)))
}

func (s *sheet) timeRow(label string, t *metav1.Time, now time.Time) {
	if t != nil && !t.IsZero() {
		s.row(label, "%s (%s)", t.UTC().Format(time.RFC3339), ago(t.Time, now))
	}
}

func describeRevision(r *object.Revision, now time.Time) string {
	var s sheet
	s.row("Name", "%s", r.Name)
	s.row("Commit", "%s", r.Spec.Commit)
	s.row("Subject", "%s", r.Spec.Subject)
	s.row("Author", "%s", r.Spec.Author)
	s.row("Branch", "%s", r.Spec.Branch)
	s.timeRow("Committed", &r.Spec.CommitTime, now)
	s.row("Phase", "%s", r.Status.Phase)
	if r.Status.Message != "" {
		s.row("Message", "%s", r.Status.Message)
	}
	s.timeRow("Fetched", r.Status.FetchedAt, now)
	s.timeRow("Activated", r.Status.ActivatedAt, now)
	s.timeRow("Ended", r.Status.EndedAt, now)
	if r.Status.ActivatedAt != nil && r.Status.EndedAt != nil {
		s.row("Took", "%s", took(commitOf(r, "")))
	}
	if r.Status.Phase != object.RevisionRejected {
		s.row("Objects", "%d created, %d changed, %d deleted, %d untouched",
			r.Status.Created, r.Status.Changed, r.Status.Deleted, r.Status.Untouched)
	}
	if n := problemCount(r); n > 0 {
		s.row("Problems", "%d", n)
		for _, p := range r.Status.Problems {
			fmt.Fprintf(&s, "  %s\n", problemLine(p))
		}
		if left := n - len(r.Status.Problems); left > 0 {
			fmt.Fprintf(&s, "  … and %d more: `mainstay lint` in the repository shows all\n", left)
		}
	}
	return s.String()
}

func problemCount(r *object.Revision) int {
	return max(int(r.Status.ProblemsAll), len(r.Status.Problems))
}

func describeSource(s *object.Source) string {
	var b sheet
	b.row("Name", "%s", s.Name)
	b.row("Namespace", "%s", orDash(s.Namespace))
	b.row("Object", "%s %s (%s)", s.Spec.Kind, s.Spec.Name, s.Spec.APIVersion)
	b.row("Path", "%s", s.Spec.Path)
	b.row("Line", "%d", s.Spec.Line)
	b.row("Commit", "%s", s.Spec.Commit)
	b.row("Author", "%s", s.Spec.Author)
	return b.String()
}

func describeCluster(c *object.Cluster, now time.Time) string {
	var b sheet
	b.row("Name", "%s", c.Name)
	b.row("Pod CIDR", "%s", orDash(c.Spec.PodCIDR))
	b.row("Service CIDR", "%s", orDash(c.Spec.ServiceCIDR))
	b.row("Repository", "%s", orDash(c.Status.Repo))
	b.row("Branch", "%s", orDash(c.Status.Branch))
	b.row("Path", "%s", orDash(c.Status.Path))
	b.row("Head", "%s", orDash(c.Status.Head))
	b.row("Revision", "%s", orDash(c.Status.Revision))
	if c.Status.Error != "" {
		b.row("Error", "%s", c.Status.Error)
		b.timeRow("Error since", c.Status.ErrorAt, now)
	}
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// problemLine is a problem as a compiler prints one.
func problemLine(p object.Problem) string {
	where := oneLine(p.Path)
	if p.Line > 0 {
		where += fmt.Sprintf(":%d", p.Line)
		if p.Column > 0 {
			where += fmt.Sprintf(":%d", p.Column)
		}
	}
	what := oneLine(p.Message)
	if p.Field != "" {
		what = oneLine(p.Field) + ": " + what
	}
	if p.Object != "" {
		what += " (" + oneLine(p.Object) + ")"
	}
	if where == "" {
		return what
	}
	return where + ": " + what
}
