package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubectl/pkg/describe"

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
		o.selection.sayNone(cmd.ErrOrStderr(), c, targets)
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
	for _, name := range t.names {
		places = append(places, place{t.kind, c.namespace, name})
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
	if err := describeOrigin(ctx, c, w, at); err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}

// describeOrigin prints the head: where the object came from.
func describeOrigin(ctx context.Context, c *client, w io.Writer, at place) error {
	from, err := originOf(ctx, c, at.kind, at.namespace, at.name)
	if err != nil || from == nil {
		return err
	}
	label := "Source:"
	for _, line := range from.lines(ctx, c, time.Now()) {
		fmt.Fprintf(w, "%-18s%s\n", label, line)
		label = ""
	}
	if from.kind.Kind != at.kind.Kind || from.name != at.name {
		fmt.Fprintf(w, "%-18s%s\n", "Declared as:", typedName(from.kind, from.name))
	}
	return nil
}

// describeText describes Mainstay's own kinds here, and leaves Kubernetes' to kubectl's code.
func describeText(ctx context.Context, c *client, at place) (string, error) {
	switch at.kind.GroupKind() {
	case object.KindFor[*object.Revision]().GroupKind():
		r, err := one[*object.Revision](ctx, c, "", at.name)
		if err != nil {
			return "", err
		}
		return describeRevision(r, time.Now()), nil
	case object.KindFor[*object.Source]().GroupKind():
		s, err := one[*object.Source](ctx, c, at.namespace, at.name)
		if err != nil {
			return "", err
		}
		return describeSource(s), nil
	case object.KindFor[*object.Cluster]().GroupKind():
		cl, err := one[*object.Cluster](ctx, c, "", at.name)
		if err != nil {
			return "", err
		}
		return describeCluster(cl, time.Now()), nil
	}
	return describeKubernetes(ctx, c, at)
}

func describeKubernetes(ctx context.Context, c *client, at place) (string, error) {
	// A 404 of kubectl's code cannot be told from one about a related object, so ask for the object itself first.
	var obj data
	if err := c.get(ctx, request{path: pathOf(at.kind, at.namespace, at.name)}, &obj); err != nil {
		return "", err
	}
	d, ok := describe.DescriberFor(schema.GroupKind{Group: at.kind.Group, Kind: at.kind.Kind}, c.config)
	if !ok {
		f := format{value: "yaml"}
		var b strings.Builder
		err := f.write(&b, obj)
		return b.String(), err
	}
	text, err := d.Describe(at.namespace, at.name, describe.DescriberSettings{ShowEvents: true, ChunkSize: 500})
	if err != nil {
		return "", fmt.Errorf("describe %s %s: %w", strings.ToLower(at.kind.Kind), at.name, err)
	}
	return text, nil
}
