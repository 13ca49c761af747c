package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// rewatchAfter keeps a server that ends every watch at once from being asked in a tight loop.
const rewatchAfter = 500 * time.Millisecond

// errRelist ends a watch whose version the server no longer has: list again and start over.
var errRelist = errors.New("the server no longer has this version")

// watchFrom hands each change after version to fn until ctx ends or fn fails, and takes up again after the server closes
// the watch. It returns errRelist if the changes in between are lost.
func (c *client) watchFrom(ctx context.Context, r request, version string, fn func(kind string, raw []byte) error) error {
	for {
		next, err := c.watchOnce(ctx, r, version, fn)
		if err != nil {
			return err
		}
		version = next
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(rewatchAfter):
		}
	}
}

// watchOnce is one watch request. It returns the version to go on from when the server ends it.
func (c *client) watchOnce(ctx context.Context, r request, version string, fn func(kind string, raw []byte) error) (string, error) {
	q := url.Values{}
	maps.Copy(q, r.query)
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	q.Set("resourceVersion", version)
	r.query = q
	body, err := c.open(ctx, r)
	if isGone(err) {
		return "", errRelist
	}
	if err != nil {
		return "", err
	}
	defer body.Close()
	events := json.NewDecoder(body)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		err := events.Decode(&event)
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return version, nil
		case err != nil:
			return "", c.explain(ctx, err)
		}
		if version, err = takeEvent(event.Type, event.Object, version, fn); err != nil {
			return "", err
		}
	}
}

func takeEvent(kind string, raw []byte, version string, fn func(kind string, raw []byte) error) (string, error) {
	if kind == string(watch.Error) {
		var status metav1.Status
		if err := json.Unmarshal(raw, &status); err != nil {
			return "", fmt.Errorf("read the end of a watch: %w", err)
		}
		if status.Code == http.StatusGone {
			return "", errRelist
		}
		return "", fmt.Errorf("the server ended the watch: %s", status.Message)
	}
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		return "", fmt.Errorf("read a watched object: %w", err)
	}
	if meta.ResourceVersion == "" {
		meta.ResourceVersion = version
	}
	if kind == string(watch.Bookmark) {
		return meta.ResourceVersion, nil
	}
	return meta.ResourceVersion, fn(kind, raw)
}

// follow prints a table of t and then a row for every change.
func (o *getOptions) follow(cmd *cobra.Command, c *client, t target) error {
	ctx := cmd.Context()
	r := request{path: pathOf(t.kind, o.namespaceFor(c), ""), query: o.query(), accept: acceptTable}
	if len(t.names) == 1 {
		r.query.Set("fieldSelector", "metadata.name="+t.names[0])
	}
	out := &tableWriter{w: cmd.OutOrStdout(), columns: o.columns(t.kind)}
	for {
		var table metav1.Table
		if err := c.get(ctx, r, &table); err != nil {
			return err
		}
		if len(table.Rows) > 0 || out.started {
			if err := out.write(&table); err != nil {
				return err
			}
		}
		err := c.watchFrom(ctx, r, table.ResourceVersion, func(_ string, raw []byte) error {
			var change metav1.Table
			if err := json.Unmarshal(raw, &change); err != nil {
				return fmt.Errorf("read a watched table: %w", err)
			}
			if len(change.ColumnDefinitions) == 0 { // sent with the first event alone
				change.ColumnDefinitions = table.ColumnDefinitions
			}
			return out.write(&change)
		})
		if !errors.Is(err, errRelist) {
			return err
		}
	}
}
