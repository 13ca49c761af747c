package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/mainstay-cluster/mainstay/object"
)

// describeOptions are what `describe` was asked for.
type describeOptions struct {
	connection
	selection getOptions
}

func describeCommand() *cobra.Command {
	o := &describeOptions{}
	cmd := &cobra.Command{
		Use:     "describe KIND [NAME…]",
		GroupID: GroupCluster,
		Short:   "Show everything about an object, and the commit it came from",
		Long: `Shows an object in full with its latest events, headed by the file, line and commit that declared it. For a Pod
that is its Deployment's declaration.

Without a name all objects of the kind are shown. Exits with 1 if an object that was named does not exist.`,
		Example: `  mainstay describe deployment web
  mainstay describe pod/web-7d4b9c-x2x5p
  mainstay describe node
  mainstay describe revision 3f2a9c1`,
		ValidArgsFunction: completeKinds,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.addFlags(cmd)
	o.addNamespace(cmd)
	cmd.Flags().StringVarP(&o.selection.selector, "selector", "l", "", "only objects whose labels match, such as app=web")
	cmd.Flags().BoolVarP(&o.selection.allNamespaces, "all-namespaces", "A", false, "objects of all namespaces")
	return cmd
}

func (o *describeOptions) run(cmd *cobra.Command, args []string) error {
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	o.selection.output = &format{}
	if err := o.selection.check(targets); err != nil {
		return err
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	if err := expand(cmd.Context(), c, targets); err != nil {
		return err
	}
	printed := 0
	for _, t := range targets {
		places, err := o.places(cmd.Context(), c, t)
		if err != nil {
			return err
		}
		for _, at := range places {
			if printed > 0 {
				fmt.Fprint(cmd.OutOrStdout(), "\n\n")
			}
			if err := describeOne(cmd.Context(), c, cmd.OutOrStdout(), at); err != nil {
				return err
			}
			printed++
		}
	}
	if printed == 0 {
		return o.selection.sayNone(cmd, c, targets)
	}
	return nil
}

// place is one object's identity.
type place struct {
	kind            object.Kind
	namespace, name string
}

// places are the objects that t means.
func (o *describeOptions) places(ctx context.Context, c *client, t target) ([]place, error) {
	var places []place
	namespace := c.namespace
	if !t.kind.Namespaced {
		namespace = "" // what belongs to it may be anywhere
	}
	for _, name := range t.names {
		places = append(places, place{t.kind, namespace, name})
	}
	if len(t.names) > 0 {
		return places, nil
	}
	objs, err := o.selection.listData(ctx, c, t)
	if err != nil {
		return nil, err
	}
	for _, obj := range objs {
		meta, _ := obj["metadata"].(data)
		namespace, _ := meta["namespace"].(string)
		name, _ := meta["name"].(string)
		places = append(places, place{t.kind, namespace, name})
	}
	return places, nil
}

func describeOne(ctx context.Context, c *client, w io.Writer, at place) error {
	text, err := describeText(ctx, c, at)
	if isNotFound(err) {
		return no("%s", notFound(at.kind, at.namespace, at.name))
	}
	if err != nil {
		return err
	}
	if err := describeOrigin(ctx, c, w, at, valueColumn(text)); err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// valueColumn is where the values of a description begin, so that the head's stand above them.
func valueColumn(text string) int {
	first, _, _ := strings.Cut(text, "\n")
	label, value, ok := strings.Cut(first, ":")
	if !ok || strings.TrimSpace(value) == "" {
		return labelWidth
	}
	return len(label) + 1 + len(value) - len(strings.TrimLeft(value, " "))
}

// describeOrigin prints the head: where the object came from.
func describeOrigin(ctx context.Context, c *client, w io.Writer, at place, column int) error {
	from, err := originOf(ctx, c, at)
	if err != nil || from == nil {
		return err
	}
	label := "Source:"
	for _, line := range from.lines(ctx, c, time.Now()) {
		if _, err := fmt.Fprintf(w, "%-*s%s\n", column, label, line); err != nil {
			return err
		}
		label = ""
	}
	return nil
}

// describeText describes one object: Mainstay's own kinds each in their own way, Kubernetes' all in the same.
func describeText(ctx context.Context, c *client, at place) (string, error) {
	raw, err := c.read(ctx, request{path: pathOf(at.kind, at.namespace, at.name)})
	if err != nil {
		return "", err
	}
	obj := at.kind.New()
	if err := json.Unmarshal(raw, obj); err != nil {
		return "", fmt.Errorf("read %s %s: %w", at.kind.Kind, at.name, err)
	}
	switch obj := obj.(type) {
	case *object.Revision:
		return describeRevision(obj, time.Now()), nil
	case *object.Source:
		return describeSource(obj), nil
	case *object.Cluster:
		return describeCluster(obj, time.Now()), nil
	}
	d := &description{client: c, at: at, obj: obj, now: time.Now()}
	if err := utiljson.Unmarshal(raw, &d.data); err != nil {
		return "", fmt.Errorf("read %s %s: %w", at.kind.Kind, at.name, err)
	}
	return d.write(ctx)
}
