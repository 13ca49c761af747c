package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/object"
)

// eventsOptions are what `events` was asked for.
type eventsOptions struct {
	connection
	output        *format
	allNamespaces bool
	about         string
	warnings      bool
	watch         bool
}

func eventsCommand() *cobra.Command {
	o := &eventsOptions{}
	cmd := &cobra.Command{
		Use:     "events",
		GroupID: GroupCluster,
		Short:   "List what happened, the latest last",
		Long:    `Lists the events of a namespace, or those about one object, the latest last.`,
		Example: `  mainstay events
  mainstay events --for pod/web-7d4b9c-x2x5p
  mainstay events -A --warnings
  mainstay events -w`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.addFlags(cmd)
	o.addNamespace(cmd)
	o.output = addOutput(cmd)
	f := cmd.Flags()
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "events of all namespaces")
	f.StringVar(&o.about, "for", "", "only events about one object, as `KIND/NAME`")
	f.BoolVar(&o.warnings, "warnings", false, "only warnings")
	f.BoolVarP(&o.watch, "watch", "w", false, "keep printing what happens")
	return cmd
}

func (o *eventsOptions) run(cmd *cobra.Command) error {
	wanted, err := o.filter()
	if err != nil {
		return err
	}
	if o.watch && o.output.isData() {
		return errors.New("--watch prints lines: leave out --output")
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	namespace := c.namespace
	if o.allNamespaces {
		namespace = ""
	}
	events, version, err := list[*corev1.Event](cmd.Context(), c, namespace, nil)
	if err != nil {
		return err
	}
	events = slices.DeleteFunc(events, func(e *corev1.Event) bool { return !wanted(e) })
	slices.SortStableFunc(events, byTime)
	if o.output.isData() {
		return o.output.write(cmd.OutOrStdout(), eventList(events))
	}
	out := &tableWriter{w: cmd.OutOrStdout()}
	if err := o.print(cmd, c, out, events); err != nil || !o.watch {
		return err
	}
	return o.follow(cmd, c, out, version, wanted)
}

// print writes the events that there are, or says that there are none.
func (o *eventsOptions) print(cmd *cobra.Command, c *client, out *tableWriter, events []*corev1.Event) error {
	if len(events) == 0 && !o.allNamespaces {
		if err := c.checkNamespace(cmd.Context()); err != nil {
			return err
		}
	}
	if len(events) == 0 {
		none, err := o.none(cmd.Context(), c)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), none)
	}
	if len(events) == 0 && !o.watch {
		return nil
	}
	return out.writeCells(eventRows(events, time.Now(), o.columns()))
}

// none says that there are no events, and whether a look elsewhere would help.
func (o *eventsOptions) none(ctx context.Context, c *client) (string, error) {
	switch {
	case o.about != "":
		return fmt.Sprintf("No events about %s in %s namespace.", o.about, c.namespace), nil
	case o.allNamespaces:
		return "No events.", nil
	}
	elsewhere, err := c.any(ctx, object.KindFor[*corev1.Event](), nil)
	if elsewhere {
		return fmt.Sprintf("No events in %s namespace; other namespaces have some: -A", c.namespace), err
	}
	return fmt.Sprintf("No events in %s namespace.", c.namespace), err
}

// filter says which events are wanted.
func (o *eventsOptions) filter() (func(*corev1.Event) bool, error) {
	var about target
	if o.about != "" {
		var err error
		if about, err = parseSlash(o.about); err != nil {
			return nil, fmt.Errorf("--for: %w", err)
		}
	}
	return func(e *corev1.Event) bool {
		if o.warnings && e.Type != corev1.EventTypeWarning {
			return false
		}
		return o.about == "" || e.InvolvedObject.Kind == about.kind.Kind && e.InvolvedObject.Name == about.names[0]
	}, nil
}

func (o *eventsOptions) follow(cmd *cobra.Command, c *client, out *tableWriter, version string, wanted func(*corev1.Event) bool) error {
	namespace := c.namespace
	if o.allNamespaces {
		namespace = ""
	}
	r := request{path: pathOf(object.KindFor[*corev1.Event](), namespace, "")}
	for {
		err := c.watchFrom(cmd.Context(), r, version, func(kind string, raw []byte) error {
			event := &corev1.Event{}
			if err := json.Unmarshal(raw, event); err != nil {
				return fmt.Errorf("read a watched event: %w", err)
			}
			if kind == "DELETED" || !wanted(event) {
				return nil
			}
			return out.writeCells(eventRows([]*corev1.Event{event}, time.Now(), o.columns())[1:])
		})
		if !errors.Is(err, errRelist) {
			return err
		}
		// What happened in between is lost to this reader; say so and go on with what happens now.
		fmt.Fprintln(cmd.ErrOrStderr(), "Some events were missed.")
		if _, version, err = list[*corev1.Event](cmd.Context(), c, namespace, nil); err != nil {
			return err
		}
	}
}

// eventColumn is one column of a table of events.
type eventColumn struct {
	title string
	cell  func(e *corev1.Event, now time.Time) string
}

var (
	eventNamespace = eventColumn{"NAMESPACE", func(e *corev1.Event, _ time.Time) string { return e.Namespace }}
	eventSeen      = eventColumn{"LAST SEEN", lastSeen}
	eventType      = eventColumn{"TYPE", func(e *corev1.Event, _ time.Time) string { return e.Type }}
	eventReason    = eventColumn{"REASON", func(e *corev1.Event, _ time.Time) string { return oneLine(e.Reason) }}
	eventAbout     = eventColumn{"OBJECT", func(e *corev1.Event, _ time.Time) string { return eventObject(e) }}
	eventMessage   = eventColumn{"MESSAGE", func(e *corev1.Event, _ time.Time) string { return oneLine(e.Message) }}
)

func (o *eventsOptions) columns() []eventColumn {
	shown := []eventColumn{eventSeen, eventType, eventReason, eventAbout, eventMessage}
	if o.allNamespaces {
		return append([]eventColumn{eventNamespace}, shown...)
	}
	return shown
}

// eventRows are the header and a row per event.
func eventRows(events []*corev1.Event, now time.Time, shown []eventColumn) [][]string {
	rows := make([][]string, 1+len(events))
	for _, column := range shown {
		rows[0] = append(rows[0], column.title)
		for i, e := range events {
			rows[1+i] = append(rows[1+i], column.cell(e, now))
		}
	}
	return rows
}

func eventObject(e *corev1.Event) string {
	return strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
}

// lastSeen is how long ago, and how often: "2m (x5 over 10m)".
func lastSeen(e *corev1.Event, now time.Time) string {
	text := duration.HumanDuration(now.Sub(eventTime(e)))
	count, first := e.Count, e.FirstTimestamp.Time
	if e.Series != nil {
		count, first = e.Series.Count, e.EventTime.Time
	}
	if count > 1 && !first.IsZero() {
		text += fmt.Sprintf(" (x%d over %s)", count, duration.HumanDuration(now.Sub(first)))
	}
	return text
}

// eventTime is when the event last happened; both generations of the API are understood.
func eventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

func byTime(a, b *corev1.Event) int {
	// Times are whole seconds; within one, versions count on.
	return cmp.Or(eventTime(a).Compare(eventTime(b)), cmp.Compare(versionOf(a), versionOf(b)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func eventList(events []*corev1.Event) corev1.EventList {
	answer := corev1.EventList{Items: []corev1.Event{}}
	answer.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("EventList"))
	for _, e := range events {
		answer.Items = append(answer.Items, *e)
	}
	return answer
}

// versionOf is the store's version at which the event was last written, 0 if it does not say.
func versionOf(e *corev1.Event) uint64 {
	version, err := strconv.ParseUint(e.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return version
}
