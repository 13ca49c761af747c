package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// format is the value of --output: one of choices, or "" for people.
type format struct {
	value   string
	choices []string
}

func (f *format) String() string { return f.value }
func (f *format) Type() string   { return strings.Join(f.choices, "|") }
func (f *format) Set(s string) error {
	if s != "" && !slices.Contains(f.choices, s) {
		return fmt.Errorf("the formats are %s", strings.Join(f.choices, ", "))
	}
	f.value = s
	return nil
}

// isData reports whether a program is going to read the output.
func (f *format) isData() bool { return f.value == "json" || f.value == "yaml" }

// addOutput gives cmd --output with json, yaml and what else it knows.
func addOutput(cmd *cobra.Command, more ...string) *format {
	f := &format{choices: append([]string{"json", "yaml"}, more...)}
	cmd.Flags().VarP(f, "output", "o", "print as data, or in another form")
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(f.choices, cobra.ShellCompDirectiveNoFileComp))
	return f
}

// Output is the value of --output of a command outside this package.
type Output struct{ f *format }

// AddOutput gives cmd --output with json and yaml.
func AddOutput(cmd *cobra.Command) Output { return Output{addOutput(cmd)} }

// Write prints v as data if that was asked for, else as people prints it.
func (o Output) Write(w io.Writer, v any, people func(io.Writer) error) error {
	if o.f.isData() {
		return o.f.write(w, v)
	}
	return people(w)
}

// write prints v as JSON or YAML.
func (f *format) write(w io.Writer, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	if f.value == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
		_, err = w.Write(data)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", data)
	return err
}

// cell is a piece of text in a grid, with a colour or "".
type cell struct{ text, colour string }

func plain(texts ...string) []cell {
	cells := make([]cell, len(texts))
	for i, t := range texts {
		cells[i].text = t
	}
	return cells
}

// writeGrid prints rows in aligned columns, each line after indent. On a terminal the last column is cut to its width.
func writeGrid(w io.Writer, indent string, rows [][]cell) error {
	for _, line := range gridLines(w, indent, rows) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// gridLines aligns rows as writeGrid prints them to w.
func gridLines(w io.Writer, indent string, rows [][]cell) []string {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var lines []string
	for _, row := range rows {
		lines = append(lines, indent+gridLine(w, row, widths, widthOf(w)-len(indent)))
	}
	return lines
}

func gridLine(w io.Writer, row []cell, widths []int, room int) string {
	var b strings.Builder
	for i, c := range row {
		if i == len(row)-1 {
			if room > 0 {
				c.text = fit(c.text, max(room, minLastColumn))
			}
			b.WriteString(paint(w, c.colour, c.text))
			break
		}
		b.WriteString(paint(w, c.colour, c.text))
		b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+columnGap))
		room -= widths[i] + columnGap
	}
	return strings.TrimRight(b.String(), " ")
}

// minLastColumn is kept of the last column even if the terminal must then wrap the line.
const minLastColumn = 20
