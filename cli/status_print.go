package cli

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/object"
)

// How much of each list fits one screen.
const (
	shownProblems = 5
	shownNotReady = 8
)

// statusPrinter prints a Status. The first error of w ends it.
type statusPrinter struct {
	w   io.Writer
	now time.Time
	err error
}

func printStatus(w io.Writer, s Status, now time.Time) error {
	p := &statusPrinter{w: w, now: now}
	p.verdict(s)
	p.line("")
	p.grid("", p.summary(s))
	p.problems(s)
	p.notReady(s.NotReady)
	p.warnings(s.Warnings)
	return p.err
}

// line prints one line. It is not cut: what stands alone on a line is worth reading whole.
func (p *statusPrinter) line(text string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, text)
	}
}

func (p *statusPrinter) grid(indent string, rows [][]cell) {
	if p.err == nil && len(rows) > 0 {
		p.err = writeGrid(p.w, indent, rows)
	}
}

func (p *statusPrinter) heading(text string) {
	p.line("")
	p.line(paint(p.w, bold, text))
}

// verdict is the line that is read first.
func (p *statusPrinter) verdict(s Status) {
	mark, colour, text := "✓", green, "Converged: what the branch says is what runs"
	if !s.Converged {
		mark, colour, text = "●", yellow, "Not converged: "+headline(s)
		if isBad(s) {
			mark, colour = "✗", red
		}
	}
	p.line(paint(p.w, colour, mark) + " " + paint(p.w, bold, text))
}

// details is what a Revision's message says of one Pod, between what the workload lacks and what is to be known besides.
var details = regexp.MustCompile(`: Pod .*?((?: \((?:no progress for|and) [^()]*\))*)$`)

// headline is why the cluster has not converged. What is said below of single Pods is left out.
func headline(s Status) string {
	if len(s.NotReady) == 0 || s.NoQuorum != "" {
		return s.Why
	}
	return details.ReplaceAllString(s.Why, "$1")
}

// isBad reports whether waiting alone will not help.
func isBad(s Status) bool {
	return s.NoQuorum != "" || s.Repository.Error != "" || s.Rejected != nil || s.Revision != nil && s.Revision.Phase == object.RevisionFailed
}

// summary is what the cluster is, label by label.
func (p *statusPrinter) summary(s Status) [][]cell {
	rows := [][]cell{p.label("Branch", p.branch(s))}
	if s.Repository.Error != "" {
		rows = append(rows, []cell{{"", ""}, {oneLine(s.Repository.Error), red}})
		if s.Repository.ErrorAt != nil {
			rows = append(rows, plain("", "for "+since(s.Repository.ErrorAt, p.now)+"; what runs is left alone"))
		}
	}
	if r := s.Revision; r != nil {
		rows = append(rows, p.label("In force", fmt.Sprintf("%s %s", short(r.Commit), oneLine(r.Subject))))
		rows = append(rows, plain("", p.commitFacts(*r)))
	} else {
		rows = append(rows, p.label("In force", "nothing yet"))
	}
	rows = append(rows, p.servers(s)...)
	rows = append(rows, p.label("Nodes", nodesText(s.Nodes)))
	for _, n := range s.Nodes.NotReady {
		rows = append(rows, []cell{{"", ""}, {n.Name + ": " + n.Reason, yellow}})
	}
	for _, paused := range s.Paused {
		rows = append(rows, []cell{{"", ""}, {oneLine(paused), yellow}})
	}
	return append(rows, p.label("Pods", podsText(s.Pods)))
}

// servers is nothing where one server is all there is, and well.
func (p *statusPrinter) servers(s Status) (rows [][]cell) {
	text, wrong := serversText(s)
	if len(s.Servers) == 0 || len(s.Servers) == 1 && s.NoQuorum == "" {
		return nil
	}
	rows = append(rows, p.label("Servers", text))
	for _, line := range wrong {
		rows = append(rows, []cell{{"", ""}, {line, yellow}})
	}
	if s.NoQuorum != "" {
		rows = append(rows, []cell{{"", ""}, {s.NoQuorum, red}}, plain("", "what follows is what "+s.Server+" has, perhaps out of date"))
	}
	return rows
}

func (p *statusPrinter) label(name, value string) []cell {
	return []cell{{name, cyan}, {value, ""}}
}

func (p *statusPrinter) branch(s Status) string {
	r := s.Repository
	if r.URL == "" {
		return "not known yet"
	}
	text := fmt.Sprintf("%s of %s", cmp.Or(r.Branch, "the default branch"), r.URL)
	if r.Path != "" && r.Path != "." {
		text += " below " + r.Path
	}
	if r.Head != "" {
		text += ", at " + short(r.Head)
	}
	return oneLine(text)
}

func (p *statusPrinter) commitFacts(c Commit) string {
	text := fmt.Sprintf("by %s, %s · %s", authorName(c.Author), ago(c.Time.Time, p.now), counts(c))
	switch {
	case c.Phase == object.RevisionConverged && took(c) != "-":
		text += " · converged in " + took(c)
	case c.Activated != nil && c.Phase == object.RevisionActive:
		text += " · active for " + duration.HumanDuration(p.now.Sub(c.Activated.Time))
	case c.Phase == object.RevisionFailed:
		text += " · failed"
	}
	return text
}

func nodesText(n NodeSummary) string {
	if n.Total == 0 {
		return "none has joined yet"
	}
	return fmt.Sprintf("%d of %d ready · CPU %s · memory %s · Pods %d of %d", n.Ready, n.Total,
		useText(n.CPU, cores, " cores"), useText(n.Memory, gibibytes, " GiB"), n.Pods.Requested, n.Pods.Allocatable)
}

// useText is "1.5 of 8 cores (19%)", of what Pods requested.
func useText(u Use, in func(int64) string, unit string) string {
	text := in(u.Requested) + " of " + in(u.Allocatable) + unit
	if u.Allocatable > 0 {
		text += fmt.Sprintf(" (%d%%)", u.Requested*100/u.Allocatable)
	}
	return text
}

func cores(milli int64) string     { return decimal(float64(milli) / 1000) }
func gibibytes(bytes int64) string { return decimal(float64(bytes) / (1 << 30)) }

func decimal(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

func podsText(s PodSummary) string {
	if len(s.Phases) == 0 {
		return "none"
	}
	// A fixed order, the healthy first; whatever else a Pod may report comes after.
	order := []string{string(corev1.PodRunning), string(corev1.PodPending), "Terminating", string(corev1.PodSucceeded), string(corev1.PodFailed)}
	var parts []string
	for _, phase := range slices.Concat(order, sortedKeys(s.Phases)) {
		part := fmt.Sprintf("%d %s", s.Phases[phase], phase)
		if s.Phases[phase] > 0 && !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return fmt.Sprintf("%d of %d ready · %s", s.Ready, s.Total, strings.Join(parts, ", "))
}

func (p *statusPrinter) problems(s Status) {
	if s.Rejected == nil {
		return
	}
	r := s.Rejected
	p.heading(fmt.Sprintf("Rejected: %s %s (%s, %s)", short(r.Commit), oneLine(r.Subject), authorName(r.Author), ago(r.Time.Time, p.now)))
	shown := r.Problems[:min(shownProblems, len(r.Problems))]
	for _, problem := range shown {
		p.line("  " + problemLine(problem))
	}
	if left := r.Total - len(shown); left > 0 {
		p.line(fmt.Sprintf("  … and %d more: `mainstay describe revision %s`", left, r.Name))
	}
}

func (p *statusPrinter) notReady(workloads []Workload) {
	if len(workloads) == 0 {
		return
	}
	p.heading("Not ready")
	var rows [][]cell
	for _, w := range workloads[:min(shownNotReady, len(workloads))] {
		reason := w.Reason
		if w.Pod != "" && w.Pod != w.Name {
			reason = w.Pod + ": " + reason
		}
		rows = append(rows, []cell{{w.Namespace, ""}, {strings.ToLower(w.Kind) + "/" + w.Name, ""},
			{shortOf(w), yellow}, {reason, ""}})
	}
	p.grid("  ", rows)
	if left := len(workloads) - shownNotReady; left > 0 {
		p.line(fmt.Sprintf("  … and %d more", left))
	}
}

// shortOf says in numbers what the workload lacks: the Pods that are ready or, if enough are, those that are of its newest template.
func shortOf(w Workload) string {
	if w.Ready >= w.Desired && w.Updated != nil && *w.Updated < w.Desired {
		return fmt.Sprintf("%d of %d updated", *w.Updated, w.Desired)
	}
	return fmt.Sprintf("%d of %d", w.Ready, w.Desired)
}

func (p *statusPrinter) warnings(events []EventSummary) {
	if len(events) == 0 {
		return
	}
	p.heading("Latest warnings")
	var rows [][]cell
	for _, e := range events {
		when := duration.HumanDuration(p.now.Sub(e.Time.Time))
		if e.Count > 1 {
			when += fmt.Sprintf(" ×%d", e.Count)
		}
		rows = append(rows, plain(when, cmp.Or(e.Namespace, "-"), e.Object, e.Reason+": "+e.Message))
	}
	p.grid("  ", rows)
}
