package load

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/object"
)

// parseAll returns the manifest of each file that was found, in the same order. Trees are read by one goroutine, since few
// object stores can do better, and decoded by as many as there are processors.
func (l *Loader) parseAll(ctx context.Context, tree Tree, files []Entry) ([]*manifest, error) {
	manifests := make([]*manifest, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	err := l.readAll(ctx, tree, files, manifests, func(i int, id string, data []byte) {
		group.Go(func() error {
			manifests[i] = parseFile(files[i].Path, data)
			l.cache.put(id, manifests[i])
			l.parsed.Add(1)
			return nil
		})
	})
	return manifests, errors.Join(err, group.Wait())
}

// readAll fills in what the cache knows and hands the rest to parse.
func (l *Loader) readAll(ctx context.Context, tree Tree, files []Entry, manifests []*manifest, parse func(i int, id string, data []byte)) error {
	total := 0
	for i, file := range files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if total > maxTreeBytes {
			manifests[i] = tooMuch(i)
			return nil
		}
		id := cacheID(file.Path, file.ID)
		if m := l.known(id); m != nil {
			manifests[i] = m
			total += m.size
			continue
		}
		data, err := tree.Read(ctx, file, maxFileBytes)
		var large *TooLargeError
		if errors.As(err, &large) {
			manifests[i] = unreadable("is %d bytes large; a manifest may be %d at most", large.Size, large.Limit)
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path.Join(tree.Prefix(), file.Path), err)
		}
		total += len(data)
		if id == "" {
			id = cacheID(file.Path, contentID(data))
			if manifests[i] = l.known(id); manifests[i] != nil {
				continue
			}
		}
		parse(i, id, data)
	}
	return nil
}

func (l *Loader) known(id string) *manifest {
	m := l.cache.get(id)
	if m != nil {
		l.reused.Add(1)
	}
	return m
}

func tooMuch(files int) *manifest {
	return unreadable("the first %d manifests of the tree are more than %d bytes together: nothing from here on was read", files, maxTreeBytes)
}

func unreadable(format string, args ...any) *manifest {
	m := &manifest{lost: true}
	m.problems = []object.Problem{{Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}}
	return m
}

// parseFile never fails and never panics: what cannot be read is a problem.
func parseFile(name string, data []byte) (m *manifest) {
	var r reader
	defer func() {
		if reason := recover(); reason != nil {
			r.problems.lose(position{1, 1}, "cannot be checked because of a bug in Mainstay, please report it with this file: %T", reason)
		}
		m = &manifest{declarations: r.found, problems: r.problems.done(), lost: r.problems.lost, size: len(data)}
	}()
	text, ok := checkText(data, &r.problems)
	if !ok {
		return nil
	}
	r.file = &source{text: text, parse: parseYAML}
	if path.Ext(name) == ".json" {
		r.file.parse = parseJSON
	}
	for _, v := range r.file.parse(text, &r.problems) {
		if hint := toolFile(name); hint != "" && v.get("metadata") == nil {
			r.problems.lose(v.position, "%s", hint)
			break
		}
		r.document(v)
	}
	return nil
}

// toolFile recognises by its name what other tools keep beside manifests.
func toolFile(name string) string {
	switch path.Base(name) {
	case "kustomization.yaml", "kustomization.yml":
		return "is a Kustomize overlay: Mainstay reads plain manifests; commit what `kustomize build` prints and list this file in .mainstayignore"
	case "Chart.yaml", "values.yaml", "values.yml":
		return "belongs to a Helm chart: Mainstay reads plain manifests; commit what `helm template` prints and list the chart in .mainstayignore"
	}
	return ""
}
