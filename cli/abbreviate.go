package cli

import (
	"context"
	"strings"

	"github.com/mainstay-cluster/mainstay/object"
)

// expand lets the user name a Revision by any beginning of its commit, or by all of it: names that fit exactly one revision are
// replaced by that revision's. All others stay as they are.
func expand(ctx context.Context, c *client, targets []target) error {
	revisionKind := object.KindFor[*object.Revision]().GroupKind()
	var revisions []*object.Revision
	for i, t := range targets {
		if t.kind.GroupKind() != revisionKind || len(t.names) == 0 {
			continue
		}
		if revisions == nil {
			var err error
			if revisions, _, err = list[*object.Revision](ctx, c, "", nil); err != nil {
				return err
			}
		}
		names := make([]string, len(t.names))
		for j, name := range t.names {
			names[j] = expandOne(revisions, name)
		}
		targets[i].names = names
	}
	return nil
}

func expandOne(revisions []*object.Revision, name string) string {
	if !hashPattern.MatchString(name) {
		return name
	}
	found := ""
	for _, r := range revisions {
		if strings.HasPrefix(r.Spec.Commit, strings.ToLower(name)) {
			if found != "" {
				return name
			}
			found = r.Name
		}
	}
	if found == "" {
		return name
	}
	return found
}
