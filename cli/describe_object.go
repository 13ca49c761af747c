package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/object"
)

// description is an object of Kubernetes in full: its metadata, what the columns of `get -o wide` sum up, its conditions,
// everything else as a manifest has it, what belongs to it, and its events. `kubectl describe` works, too, and has words
// of its own for each kind; its code is not linked here because it brings a client for every kind of Kubernetes.
type description struct {
	sheet
	client *client
	at     place
	obj    object.Object
	data   data // the same object as the server sent it
	now    time.Time
}

func (d *description) write(ctx context.Context) (string, error) {
	d.metadata()
	if err := d.summary(ctx); err != nil {
		return "", err
	}
	if err := d.allocated(ctx); err != nil {
		return "", err
	}
	if err := d.conditions(); err != nil {
		return "", err
	}
	if err := d.fields(); err != nil {
		return "", err
	}
	for _, r := range relationsOf(d.obj) {
		if err := d.relation(ctx, r); err != nil {
			return "", err
		}
	}
	err := d.events(ctx)
	return d.String(), err
}

func (d *description) metadata() {
	d.row("Name", "%s", d.obj.GetName())
	if d.at.kind.Namespaced {
		d.row("Namespace", "%s", d.obj.GetNamespace())
	}
	d.pairs("Labels", d.obj.GetLabels())
	d.pairs("Annotations", d.obj.GetAnnotations())
	if owner := metav1.GetControllerOf(d.obj); owner != nil {
		d.row("Controlled By", "%s/%s", owner.Kind, owner.Name)
	}
	created := d.obj.GetCreationTimestamp()
	d.timeRow("Created", &created, d.now)
	d.timeRow("Deleted", d.obj.GetDeletionTimestamp(), d.now)
}

// pairs prints one per line.
func (d *description) pairs(label string, pairs map[string]string) {
	for _, key := range sortedKeys(pairs) {
		d.row(label, "%s=%s", key, pairs[key])
		label = ""
	}
}

// summary is the row that `get -o wide` shows, but for what stands above it and what is empty.
func (d *description) summary(ctx context.Context) error {
	var table metav1.Table
	if err := d.client.get(ctx, request{path: pathOf(d.at.kind, d.at.namespace, d.at.name), accept: acceptTable}, &table); err != nil {
		return err
	}
	for _, row := range table.Rows {
		for i, column := range table.ColumnDefinitions {
			text := cellText(row.Cells[i])
			if column.Name == "Name" || column.Name == "Age" || text == "" || text == "<none>" {
				continue
			}
			d.row(column.Name, "%s", text)
		}
	}
	return nil
}

// condition is what conditions of all kinds have.
type condition struct {
	Type, Status, Reason, Message string
	LastTransitionTime            metav1.Time
}

// conditions are printed as a table and taken out of the fields.
func (d *description) conditions() error {
	status, _ := d.data["status"].(data)
	if status["conditions"] == nil {
		return nil
	}
	encoded, err := json.Marshal(status["conditions"])
	if err != nil {
		return fmt.Errorf("read the conditions of %s: %w", d.at.name, err)
	}
	var conditions []condition
	if err := json.Unmarshal(encoded, &conditions); err != nil {
		return fmt.Errorf("read the conditions of %s: %w", d.at.name, err)
	}
	delete(status, "conditions")
	rows := [][]string{{"TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"}}
	for _, c := range conditions {
		since := "-"
		if !c.LastTransitionTime.IsZero() {
			since = duration.HumanDuration(d.now.Sub(c.LastTransitionTime.Time))
		}
		rows = append(rows, []string{c.Type, c.Status, since, oneLine(orDash(c.Reason)), oneLine(c.Message)})
	}
	return d.table("Conditions", rows)
}

// fields prints whatever is not metadata as YAML.
func (d *description) fields() error {
	for _, key := range sortedKeys(d.data) {
		content := d.data[key]
		below, isTree := content.(data)
		if key == "apiVersion" || key == "kind" || key == "metadata" || isTree && len(below) == 0 {
			continue
		}
		text, err := yaml.Marshal(content)
		if err != nil {
			return fmt.Errorf("print %s of %s: %w", key, d.at.name, err)
		}
		title := strings.ToUpper(key[:1]) + key[1:]
		if _, isList := content.([]any); !isTree && !isList {
			d.row(title, "%s", strings.TrimSpace(string(text)))
			continue
		}
		fmt.Fprintf(d, "%s:\n", title)
		for line := range strings.Lines(string(text)) {
			d.WriteString("  " + line)
		}
	}
	return nil
}

// table prints rows, the first of which is the header, below a title.
func (d *description) table(title string, rows [][]string) error {
	fmt.Fprintf(d, "%s:\n", title)
	return (&tableWriter{w: &indented{d}}).writeCells(rows)
}

// indented puts two spaces before each line; each Write is a whole line.
type indented struct{ d *description }

func (w *indented) Write(line []byte) (int, error) { return fmt.Fprintf(w.d, "  %s", line) }

// relation prints a table of the objects that belong to this one.
func (d *description) relation(ctx context.Context, r relation) error {
	var table metav1.Table
	if err := d.client.get(ctx, request{path: pathOf(r.kind, d.at.namespace, ""), query: r.query, accept: acceptTable}, &table); err != nil {
		return err
	}
	if r.owned {
		table.Rows = slices.DeleteFunc(table.Rows, func(row metav1.TableRow) bool { return !d.owns(row) })
	}
	if len(table.Rows) == 0 {
		d.row(r.title, "<none>")
		return nil
	}
	fmt.Fprintf(d, "%s:\n", r.title)
	return (&tableWriter{w: &indented{d}, columns: columns{namespace: !d.at.kind.Namespaced}}).write(&table)
}

func (d *description) owns(row metav1.TableRow) bool {
	var meta metav1.PartialObjectMetadata
	return json.Unmarshal(row.Object.Raw, &meta) == nil && metav1.IsControlledBy(&meta, d.obj)
}

// events prints those about this very object, not about one of its name before it.
func (d *description) events(ctx context.Context) error {
	query := url.Values{"fieldSelector": {"involvedObject.name=" + d.at.name + ",involvedObject.kind=" + d.at.kind.Kind}}
	events, _, err := list[*corev1.Event](ctx, d.client, d.at.namespace, query)
	if err != nil {
		return err
	}
	events = slices.DeleteFunc(events, func(e *corev1.Event) bool {
		return e.InvolvedObject.UID != "" && e.InvolvedObject.UID != d.obj.GetUID()
	})
	if len(events) == 0 {
		d.row("Events", "<none>")
		return nil
	}
	slices.SortStableFunc(events, byTime)
	return d.table("Events", eventRows(events, d.now, []eventColumn{eventSeen, eventType, eventReason, eventMessage}))
}
