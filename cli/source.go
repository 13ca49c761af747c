package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mainstay-cluster/mainstay/object"
)

// shortHash is how many characters of a commit people are shown.
const shortHash = 7

func short(commit string) string {
	if len(commit) > shortHash {
		return commit[:shortHash]
	}
	return commit
}

// authorName is the name in "name <address>".
func authorName(author string) string {
	name, _, _ := strings.Cut(author, " <")
	return oneLine(name)
}

// ago says how far from now a time is. A Pod that is being stopped, for one, is deleted at a time to come.
func ago(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "at an unknown time"
	case t.After(now):
		return "in " + duration.HumanDuration(t.Sub(now))
	}
	return duration.HumanDuration(now.Sub(t)) + " ago"
}

// tracePath is where the API says what an object comes from.
const tracePath = "/mainstay/v1/trace"

// origin is where an object came from. Chain begins with the object and ends with the declared one that it exists for, which
// for a Pod of a Deployment is the Deployment.
type origin struct {
	Commit string      `json:"commit"`
	Author string      `json:"author"`
	Path   string      `json:"path"` // empty if no repository declares the object
	Line   int         `json:"line"`
	Chain  []chainLink `json:"chain"`
}

type chainLink struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// originOf finds the declaration of an object, or of what it exists for. It is nil if nobody declared it.
func originOf(ctx context.Context, c *client, at place) (*origin, error) {
	query := url.Values{"kind": {at.kind.GroupKind().String()}, "name": {at.name}}
	if at.kind.Namespaced {
		query.Set("namespace", at.namespace)
	}
	from := &origin{}
	err := c.get(ctx, request{path: tracePath, query: query}, from)
	if isNotFound(err) || err == nil && from.Path == "" {
		return nil, nil
	}
	return from, err
}

// lines says where the object came from: file and commit, the commit's subject if it is still known, and what was declared
// if that is another object.
func (o *origin) lines(ctx context.Context, c *client, now time.Time) []string {
	lines := []string{fmt.Sprintf("%s:%d · commit %s by %s", oneLine(o.Path), o.Line, short(o.Commit), authorName(o.Author))}
	revisions, _, err := list[*object.Revision](ctx, c, "", nil)
	if err != nil {
		return lines // the commit's subject is an extra
	}
	for _, r := range revisions {
		if r.Spec.Commit == o.Commit {
			lines = append(lines, fmt.Sprintf("%s, %s", quoted(r.Spec.Subject), ago(r.Spec.CommitTime.Time, now)))
		}
	}
	if n := len(o.Chain); n > 1 {
		lines = append(lines, fmt.Sprintf("for %s/%s, which is declared there", strings.ToLower(o.Chain[n-1].Kind), o.Chain[n-1].Name))
	}
	return lines
}
