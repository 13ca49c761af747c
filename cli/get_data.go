package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// data is an object as the server sends it, nothing left out.
type data = map[string]any

// printData prints one object as it is, and several as a v1 List, as kubectl does.
func (o *getOptions) printData(cmd *cobra.Command, c *client, targets []target) error {
	single := len(targets) == 1 && len(targets[0].names) == 1
	items := []data{}
	for _, t := range targets {
		objs, err := o.objects(cmd.Context(), c, t)
		if err != nil {
			return err
		}
		items = append(items, objs...)
	}
	if single {
		return o.output.write(cmd.OutOrStdout(), items[0])
	}
	return o.output.write(cmd.OutOrStdout(), data{"apiVersion": "v1", "kind": "List", "items": items, "metadata": data{}})
}

func (o *getOptions) objects(ctx context.Context, c *client, t target) ([]data, error) {
	if len(t.names) == 0 {
		return o.listData(ctx, c, t)
	}
	var objs []data
	for _, name := range t.names {
		raw, err := c.read(ctx, request{path: pathOf(t.kind, c.namespace, name)})
		if isNotFound(err) {
			return nil, no("%s", notFound(t.kind, c.namespace, name))
		}
		if err != nil {
			return nil, err
		}
		var obj data
		if err := utiljson.Unmarshal(raw, &obj); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", t.kind.Kind, name, err)
		}
		objs = append(objs, obj)
	}
	return objs, nil
}

// listData lists objects; those of a list do not say what they are, so that is added.
func (o *getOptions) listData(ctx context.Context, c *client, t target) ([]data, error) {
	raw, err := c.read(ctx, request{path: pathOf(t.kind, o.namespaceFor(c), ""), query: o.query()})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("read the list of %s: %w", t.kind.Resource, err)
	}
	var objs []data
	for _, item := range answer.Items {
		var obj data
		if err := utiljson.Unmarshal(item, &obj); err != nil {
			return nil, fmt.Errorf("read the list of %s: %w", t.kind.Resource, err)
		}
		obj["apiVersion"], obj["kind"] = t.kind.GroupVersion().String(), t.kind.Kind
		objs = append(objs, obj)
	}
	return objs, nil
}

func (o *getOptions) printNames(cmd *cobra.Command, c *client, targets []target) error {
	var missing []error
	for _, t := range targets {
		table, lost, err := o.table(cmd.Context(), c, t)
		if err != nil {
			return err
		}
		missing = append(missing, lost...)
		for _, row := range table.Rows {
			var meta metav1.PartialObjectMetadata
			if err := json.Unmarshal(row.Object.Raw, &meta); err != nil {
				return fmt.Errorf("read a table row's object: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), typedName(t.kind, meta.Name))
		}
	}
	if len(missing) > 0 {
		return no("%s", errors.Join(missing...).Error())
	}
	return nil
}
