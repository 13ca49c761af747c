package load

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/mainstay-cluster/mainstay/object"
)

// found is what a walk over a tree found.
type found struct {
	files    []Entry // manifests, sorted by path
	links    []Entry // symbolic links that may have stood for directories of manifests
	problems []object.Problem
	entries  int
	lost     bool // part of the tree was not looked at
}

func (f *found) problem(name, format string, args ...any) {
	f.problems = append(f.problems, object.Problem{Path: object.Printable(name), Message: fmt.Sprintf(format, args...)})
}

// walk finds the manifests of a tree by its own rules: go-git's walker has no bounds, and a directory may hold anything.
func (l *Loader) walk(ctx context.Context, tree Tree) (*found, error) {
	w := walker{tree: tree, dirs: &l.dirs, found: &found{}}
	if err := w.dir(ctx, Entry{Mode: ModeDir}, ignore{}, 0); err != nil {
		return nil, err
	}
	if err := w.checkLinks(ctx); err != nil {
		return nil, err
	}
	for i := range w.found.problems {
		w.found.problems[i].Path = orDot(path.Join(tree.Prefix(), w.found.problems[i].Path))
	}
	return w.found, nil
}

type walker struct {
	tree  Tree
	dirs  *dirCache
	found *found
}

func (w *walker) dir(ctx context.Context, dir Entry, rules ignore, depth int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if depth > maxDirDepth {
		w.found.lost = true
		w.found.problem(dir.Path, "directories are nested more than %d deep", maxDirDepth)
		return nil
	}
	entries, err := w.list(ctx, dir)
	var large *TooLargeError
	if errors.As(err, &large) {
		w.found.lost = true
		w.found.problem(dir.Path, "the directory holds too many names: at most %d are read", maxEntries)
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", orDot(path.Join(w.tree.Prefix(), dir.Path)), err)
	}
	if rules, err = w.ignoreFile(ctx, dir, entries, rules); err != nil {
		return err
	}
	previous := ""
	for _, e := range entries {
		if w.found.entries++; w.found.entries > maxEntries {
			return w.tooMany()
		}
		name := path.Base(e.Path)
		if name == previous {
			w.found.problem(e.Path, "stands twice in its directory: the Git tree is damaged")
		}
		previous = name
		if err := w.entry(ctx, e, rules, depth); err != nil {
			return err
		}
	}
	return nil
}

// tooMany reports once: the walk ends as each directory above meets its next entry.
func (w *walker) tooMany() error {
	if !w.found.lost || w.found.entries == maxEntries+1 {
		w.found.lost = true
		w.found.problem("", "the tree holds more than %d names: keep manifests in a directory of their own and name it with --path", maxEntries)
	}
	return nil
}

func (w *walker) list(ctx context.Context, dir Entry) ([]Entry, error) {
	if entries, ok := w.dirs.get(dir); ok {
		return entries, nil
	}
	entries, err := w.tree.List(ctx, dir)
	if err == nil {
		w.dirs.put(dir, entries)
	}
	return entries, err
}

func (w *walker) entry(ctx context.Context, e Entry, rules ignore, depth int) error {
	name := path.Base(e.Path)
	if reason := unsafeName(name, e.Path); reason != "" {
		w.found.problem(e.Path, "%s", reason)
		return nil
	}
	if strings.HasPrefix(name, ".") || rules.matches(e) {
		return nil
	}
	switch e.Mode {
	case ModeDir:
		return w.dir(ctx, e, rules, depth+1)
	case ModeSubmodule:
		w.found.problem(e.Path, "is a submodule, and submodules are not followed: copy its manifests into this repository, or list it in .mainstayignore")
	case ModeSymlink:
		w.link(e, name)
	case ModeFile:
		if isManifest(name) {
			w.found.files = append(w.found.files, e)
		}
	default:
		if isManifest(name) {
			w.found.problem(e.Path, "is neither a file nor a directory")
		}
	}
	return nil
}

func (w *walker) link(e Entry, name string) {
	switch {
	case isManifest(name):
		w.found.problem(e.Path, "is a symbolic link, and links are not followed: put the manifest itself here, or list the link in .mainstayignore")
	case !strings.Contains(name, "."):
		w.found.links = append(w.found.links, e) // perhaps a directory
	}
}

// checkLinks refuses links to directories whose manifests would have been read a second time, or from outside of the tree.
func (w *walker) checkLinks(ctx context.Context) error {
	for _, link := range w.found.links {
		target, err := w.tree.Read(ctx, link, maxLinkBytes)
		var large *TooLargeError
		if err != nil && !errors.As(err, &large) {
			return fmt.Errorf("read link %s: %w", path.Join(w.tree.Prefix(), link.Path), err)
		}
		to := path.Join(path.Dir(link.Path), string(target))
		if path.IsAbs(string(target)) || to == ".." || strings.HasPrefix(to, "../") || w.holdsManifests(to) {
			w.found.problem(link.Path, "is a symbolic link, and links are not followed: put the manifests themselves here, or list the link in .mainstayignore")
		}
	}
	return nil
}

func (w *walker) holdsManifests(dir string) bool {
	for _, f := range w.found.files {
		if dir == "." || strings.HasPrefix(f.Path, dir+"/") {
			return true
		}
	}
	return false
}

func isManifest(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// unsafeName refuses names that no repository made by Git has: they are meant to confuse whoever writes them to a disk or a terminal.
func unsafeName(name, full string) string {
	lower := strings.ToLower(name)
	switch {
	case name == "" || name == "." || name == ".." || strings.HasSuffix(full, "/..") || lower == ".git" || lower == "git~1":
		return "is a name that Git forbids: the tree was not made by Git"
	case len(name) > maxNameBytes:
		return fmt.Sprintf("has a name of more than %d bytes", maxNameBytes)
	case strings.ContainsAny(name, "\\/"):
		return `has a name with a slash or a backslash`
	case !utf8.ValidString(name):
		return "has a name that is not UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || hidesText(r) }):
		return "has a name with control characters"
	}
	return ""
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}
