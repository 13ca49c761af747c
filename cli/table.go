package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// columns says which columns of a server's table are shown.
type columns struct {
	namespace bool   // a first column with the namespace
	wide      bool   // also those the server marks as less important
	labels    bool   // a last column with the labels
	prefix    string // put before each name: "pod/" where several kinds are shown
}

// tableWriter prints tables of one kind, row for row, and never makes a column narrower, so that rows which a watch adds
// stand under the first ones.
type tableWriter struct {
	w       io.Writer
	columns columns
	widths  []int
	started bool
}

// columnGap is what kubectl leaves between columns.
const columnGap = 3

func (t *tableWriter) write(table *metav1.Table) error {
	var rows [][]string
	if !t.started {
		rows = append(rows, t.columns.header(table))
		t.started = true
	}
	for _, row := range table.Rows {
		cells, err := t.columns.cells(table.ColumnDefinitions, row)
		if err != nil {
			return err
		}
		rows = append(rows, cells)
	}
	return t.writeCells(rows)
}

func (t *tableWriter) writeCells(rows [][]string) error {
	for _, row := range rows {
		for len(t.widths) < len(row) {
			t.widths = append(t.widths, 0)
		}
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(t.w, alignRow(row, t.widths)); err != nil {
			return err
		}
	}
	return nil
}

// alignRow pads each cell but the last to its column's width.
func alignRow(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		b.WriteString(cell)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+columnGap))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

func (c columns) header(table *metav1.Table) []string {
	var row []string
	if c.namespace {
		row = append(row, "NAMESPACE")
	}
	for _, def := range table.ColumnDefinitions {
		if def.Priority == 0 || c.wide {
			row = append(row, strings.ToUpper(def.Name))
		}
	}
	if c.labels {
		row = append(row, "LABELS")
	}
	return row
}

func (c columns) cells(defs []metav1.TableColumnDefinition, row metav1.TableRow) ([]string, error) {
	var meta metav1.PartialObjectMetadata
	if (c.namespace || c.labels) && len(row.Object.Raw) > 0 {
		if err := json.Unmarshal(row.Object.Raw, &meta); err != nil {
			return nil, fmt.Errorf("read a table row's object: %w", err)
		}
	}
	var cells []string
	if c.namespace {
		cells = append(cells, meta.Namespace)
	}
	for i, def := range defs {
		switch {
		case i >= len(row.Cells) || def.Priority != 0 && !c.wide:
		case def.Format == "name" || i == 0 && strings.EqualFold(def.Name, "name"):
			cells = append(cells, c.prefix+cellText(row.Cells[i]))
		default:
			cells = append(cells, cellText(row.Cells[i]))
		}
	}
	if c.labels {
		cells = append(cells, labelText(meta.Labels))
	}
	return cells, nil
}

func cellText(v any) string {
	switch v := v.(type) {
	case nil:
		return "<none>"
	case string:
		return oneLine(v)
	case float64: // every number of a table is whole
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprint(v)
}

func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return "<none>"
	}
	var pairs []string
	for _, k := range sortedKeys(labels) {
		pairs = append(pairs, k+"="+labels[k])
	}
	return strings.Join(pairs, ",")
}
