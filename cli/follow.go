package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/mainstay-cluster/mainstay/object"
)

// change is an object that exists now, or its end.
type change struct {
	object  object.Object
	deleted bool
	synced  bool // the last of those that existed at first; object is nil
}

// followAll sends every object of a kind and then every change, until ctx ends.
func (c *client) followAll(ctx context.Context, k object.Kind, changes chan<- change) error {
	send := func(ch change) error {
		select {
		case changes <- ch:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for {
		var answer struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
			Items []json.RawMessage `json:"items"`
		}
		if err := c.get(ctx, request{path: pathOf(k, "", "")}, &answer); err != nil {
			return err
		}
		take := func(kind string, raw []byte) error {
			obj := k.New()
			if err := json.Unmarshal(raw, obj); err != nil {
				return fmt.Errorf("read a %s: %w", k.Kind, err)
			}
			return send(change{object: obj, deleted: kind == string(watch.Deleted)})
		}
		for _, raw := range answer.Items {
			if err := take(string(watch.Added), raw); err != nil {
				return err
			}
		}
		if err := send(change{synced: true}); err != nil {
			return err
		}
		err := c.watchFrom(ctx, request{path: pathOf(k, "", "")}, answer.Metadata.ResourceVersion, take)
		if !errors.Is(err, errRelist) {
			return err
		}
	}
}
