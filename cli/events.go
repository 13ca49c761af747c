package cli

import (
	"cmp"
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
	if len(events) == 0 && !o.allNamespaces {
		if err := c.checkNamespace(cmd.Context()); err != nil {
			return err
		}
	}
	if len(events) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), o.none(c))
	}
	out := &tableWriter{w: cmd.OutOrStdout()}
	if len(events) > 0 || o.watch {
		if err := out.writeCells(eventRows(events, time.Now(), o.allNamespaces)); err != nil {
			return err
		}
	}
	if !o.watch {
		return nil
	}
	return o.follow(cmd, c, out, version, wanted)
}

func (o *eventsOptions) none(c *client) string {
	switch {
	case o.about != "":
		return fmt.Sprintf("No events about %s in %s namespace.", o.about, c.namespace)
	case o.allNamespaces:
		return "No events."
	}
	return fmt.Sprintf("No events in %s namespace.", c.namespace)
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
			return out.writeCells(eventRows([]*corev1.Event{event}, time.Now(), o.allNamespaces)[1:])
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

// eventRows are the header and a row per event.
func eventRows(events []*corev1.Event, now time.Time, namespaces bool) [][]string {
	rows := [][]string{{"LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"}}
	for _, e := range events {
		rows = append(rows, []string{lastSeen(e, now), e.Type, oneLine(e.Reason), eventObject(e), oneLine(e.Message)})
	}
	if !namespaces {
		return rows
	}
	rows[0] = append([]string{"NAMESPACE"}, rows[0]...)
	for i, e := range events {
		rows[1+i] = append([]string{e.Namespace}, rows[1+i]...)
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
