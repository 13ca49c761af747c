package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/object"
)

// getOptions are what `get` was asked for.
type getOptions struct {
	connection
	output        *format
	allNamespaces bool
	selector      string
	fieldSelector string
	showLabels    bool
	watch         bool
}

func getCommand() *cobra.Command {
	o := &getOptions{}
	cmd := &cobra.Command{
		Use:     "get KIND[,KIND…] [NAME…]",
		GroupID: GroupCluster,
		Short:   "List objects",
		Long: `Lists objects of one or several kinds, or shows single ones, as kubectl does.

A kind may be given in singular, plural or by its short name; "all" is what an application usually consists of.
Exits with 1 if an object that was named does not exist.`,
		Example: `  mainstay get pods -A
  mainstay get deploy,rs,pods -l app=web -o wide
  mainstay get pod/web-1 deploy/web
  mainstay get nodes -o wide
  mainstay get revision 3f2a9c1 -o yaml
  mainstay get pods -w`,
		ValidArgsFunction: completeKinds,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.addFlags(cmd)
	o.addNamespace(cmd)
	o.output = addOutput(cmd, "wide", "name")
	f := cmd.Flags()
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "objects of all namespaces")
	f.StringVarP(&o.selector, "selector", "l", "", "only objects whose labels match, such as app=web,tier!=db")
	f.StringVar(&o.fieldSelector, "field-selector", "", "only objects whose fields match, such as spec.nodeName=n1")
	f.BoolVar(&o.showLabels, "show-labels", false, "a last column with the labels")
	f.BoolVarP(&o.watch, "watch", "w", false, "keep printing what changes")
	return cmd
}

func (o *getOptions) run(cmd *cobra.Command, args []string) error {
	targets, err := parseTargets(args)
	if err != nil {
		return err
	}
	if err := o.check(targets); err != nil {
		return err
	}
	c, err := o.open()
	if err != nil {
		return err
	}
	if err := expand(cmd.Context(), c, targets); err != nil {
		return err
	}
	switch {
	case o.watch:
		return o.follow(cmd, c, targets[0])
	case o.output.isData():
		return o.printData(cmd, c, targets)
	case o.output.value == "name":
		return o.printNames(cmd, c, targets)
	}
	return o.printTables(cmd, c, targets)
}

func (o *getOptions) check(targets []target) error {
	if _, err := labels.Parse(o.selector); err != nil {
		return fmt.Errorf("--selector %q: %w", o.selector, err)
	}
	named := len(targets[0].names) > 0
	switch {
	case named && (o.selector != "" || o.fieldSelector != ""):
		return errors.New("give either names or a selector")
	case named && o.allNamespaces:
		return errors.New("give either names or --all-namespaces: a name is of one namespace")
	case o.watch && (len(targets) > 1 || len(targets[0].names) > 1):
		return errors.New("--watch follows one kind, or one object")
	case o.watch && (o.output.isData() || o.output.value == "name"):
		return errors.New("--watch prints tables: leave out --output, or use -o wide")
	}
	return nil
}

func (o *getOptions) namespaceFor(c *client) string {
	if o.allNamespaces {
		return ""
	}
	return c.namespace
}

func (o *getOptions) query() url.Values {
	q := url.Values{}
	if o.selector != "" {
		q.Set("labelSelector", o.selector)
	}
	if o.fieldSelector != "" {
		q.Set("fieldSelector", o.fieldSelector)
	}
	return q
}

// printTables prints a table per kind, with an empty line between them.
func (o *getOptions) printTables(cmd *cobra.Command, c *client, targets []target) error {
	printed := 0
	var missing []error
	targets = merge(targets)
	for _, g := range targets {
		table, lost, err := o.table(cmd.Context(), c, g)
		if err != nil {
			return err
		}
		missing = append(missing, lost...)
		if len(table.Rows) == 0 {
			continue
		}
		if isNode(g.kind) {
			if err := describeNodes(cmd.Context(), c, table); err != nil {
				return err
			}
		}
		if printed > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		w := &tableWriter{w: cmd.OutOrStdout(), columns: o.columns(g.kind)}
		if len(targets) > 1 {
			w.columns.prefix = typedName(g.kind, "")
		}
		if err := w.write(table); err != nil {
			return err
		}
		printed++
	}
	if len(missing) > 0 {
		return no("%s", errors.Join(missing...).Error())
	}
	if printed == 0 {
		return o.sayNone(cmd, c, targets)
	}
	return nil
}

// merge puts names of one kind that follow each other into one target, so that they share a table.
func merge(targets []target) []target {
	var merged []target
	for _, t := range targets {
		last := len(merged) - 1
		if last >= 0 && merged[last].kind.Kind == t.kind.Kind && len(t.names) > 0 {
			merged[last].names = append(merged[last].names[:len(merged[last].names):len(merged[last].names)], t.names...)
			continue
		}
		merged = append(merged, t)
	}
	return merged
}

func (o *getOptions) columns(k object.Kind) columns {
	return columns{namespace: o.allNamespaces && k.Namespaced, wide: o.output.value == "wide", labels: o.showLabels}
}

// sayNone says that there is nothing to print, and whether a look elsewhere would help.
func (o *getOptions) sayNone(cmd *cobra.Command, c *client, targets []target) error {
	w := cmd.ErrOrStderr()
	if o.allNamespaces || !slices.ContainsFunc(targets, func(t target) bool { return t.kind.Namespaced }) {
		fmt.Fprintln(w, "No resources found.")
		return nil
	}
	if err := c.checkNamespace(cmd.Context()); err != nil {
		return err
	}
	elsewhere, err := o.elsewhere(cmd.Context(), c, targets)
	if err != nil {
		return err
	}
	if elsewhere {
		fmt.Fprintf(w, "No resources found in %s namespace; other namespaces have some: -A\n", c.namespace)
		return nil
	}
	fmt.Fprintf(w, "No resources found in %s namespace.\n", c.namespace)
	return nil
}

// elsewhere reports whether some namespace has what was looked for.
func (o *getOptions) elsewhere(ctx context.Context, c *client, targets []target) (bool, error) {
	for _, t := range targets {
		if !t.kind.Namespaced {
			continue
		}
		if found, err := c.any(ctx, t.kind, o.query()); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// table is one table of all that t means, and an error for each name that does not exist.
func (o *getOptions) table(ctx context.Context, c *client, t target) (*metav1.Table, []error, error) {
	table, query := &metav1.Table{}, o.query()
	if isNode(t.kind) {
		maps.Copy(query, wholeObjects)
	}
	if len(t.names) == 0 {
		return table, nil, c.get(ctx, request{path: pathOf(t.kind, o.namespaceFor(c), ""), query: query, accept: acceptTable}, table)
	}
	var missing []error
	for _, name := range t.names {
		var row metav1.Table
		err := c.get(ctx, request{path: pathOf(t.kind, c.namespace, name), query: query, accept: acceptTable}, &row)
		switch {
		case isNotFound(err):
			missing = append(missing, errors.New(notFound(t.kind, c.namespace, name)))
		case err != nil:
			return nil, nil, err
		default:
			table.ColumnDefinitions = row.ColumnDefinitions
			table.Rows = append(table.Rows, row.Rows...)
		}
	}
	return table, missing, nil
}

func notFound(k object.Kind, namespace, name string) string {
	if !k.Namespaced {
		return fmt.Sprintf("there is no %s %q", strings.ToLower(k.Kind), name)
	}
	return fmt.Sprintf("there is no %s %q in namespace %s", strings.ToLower(k.Kind), name, namespace)
}
