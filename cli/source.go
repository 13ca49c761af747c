package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return duration.HumanDuration(now.Sub(t)) + " ago"
}

// origin is where an object came from: its declaration and the kind and name of what is declared, which for a Pod of a
// Deployment is the Deployment.
type origin struct {
	source *object.Source
	kind   object.Kind
	name   string
}

// maxOwners bounds the walk up the owners: Kubernetes' kinds need three.
const maxOwners = 8

// originOf finds the declaration of an object, or of the nearest of its owners that has one. It is nil if nobody declared it.
func originOf(ctx context.Context, c *client, k object.Kind, namespace, name string) (*origin, error) {
	for range maxOwners {
		source, err := sourceOf(ctx, c, k, namespace, name)
		if err != nil {
			return nil, err
		}
		if source != nil {
			return &origin{source, k, name}, nil
		}
		var obj metav1.PartialObjectMetadata
		err = c.get(ctx, request{path: pathOf(k, namespace, name)}, &obj)
		if isNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		owner := metav1.GetControllerOf(&obj)
		if owner == nil {
			return nil, nil
		}
		known := false
		if k, known = kindOfOwner(owner); !known {
			return nil, nil
		}
		name = owner.Name
	}
	return nil, nil
}

func kindOfOwner(ref *metav1.OwnerReference) (object.Kind, bool) {
	group, _, _ := strings.Cut(ref.APIVersion, "/")
	if !strings.Contains(ref.APIVersion, "/") {
		group = ""
	}
	for _, k := range object.Kinds() {
		if k.Kind == ref.Kind && k.Group == group {
			return k, true
		}
	}
	return object.Kind{}, false
}

// sourceOf finds the declaration of exactly this object, nil if there is none.
func sourceOf(ctx context.Context, c *client, k object.Kind, namespace, name string) (*object.Source, error) {
	if !k.Declarable {
		return nil, nil
	}
	if k.Namespaced {
		source, err := one[*object.Source](ctx, c, namespace, object.SourceName(k, name))
		if isNotFound(err) {
			return nil, nil
		}
		return source, err
	}
	// The Source of an object without a namespace has none either, which no path of the API can say.
	sources, _, err := list[*object.Source](ctx, c, "", url.Values{"fieldSelector": {"metadata.name=" + object.SourceName(k, name)}})
	for _, s := range sources {
		if s.Namespace == "" && s.Name == object.SourceName(k, name) {
			return s, nil
		}
	}
	return nil, err
}

// lines says where the object came from, in one line or two: the second is the commit's subject, if it is still known.
func (o *origin) lines(ctx context.Context, c *client, now time.Time) []string {
	s := o.source.Spec
	text := fmt.Sprintf("%s:%d · commit %s by %s", oneLine(s.Path), s.Line, short(s.Commit), authorName(s.Author))
	revisions, _, err := list[*object.Revision](ctx, c, "", nil)
	if err != nil {
		return []string{text} // the commit's subject is an extra
	}
	for _, r := range revisions {
		if r.Spec.Commit == s.Commit {
			return []string{text, fmt.Sprintf("%q, %s", oneLine(r.Spec.Subject), ago(r.Spec.CommitTime.Time, now))}
		}
	}
	return []string{text}
}
