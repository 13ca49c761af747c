package gitsync

import (
	"context"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// A history is walked no further than this: whoever changed a file longer ago than that is not worth a later activation.
const (
	maxHistory     = 20_000
	maxHistoryTime = 300 * time.Millisecond
)

// lastChange is the commit that last changed a file.
type lastChange struct{ hash, author string }

// lastChanges finds the commits that last changed files, by walking back from a head as far as the repository has history
// and the bounds allow. Each file follows the parent that has it unchanged, so that a merge is not taken for its author.
// Subtrees that are the same on both sides are not read.
func lastChanges(ctx context.Context, head commit, paths map[string]bool) map[string]lastChange {
	w := walk{
		objects: head.objects, found: map[string]lastChange{}, dirs: map[string]bool{},
		commits: map[plumbing.Hash]*object.Commit{}, waiting: map[plumbing.Hash]map[string]bool{},
	}
	for p := range paths {
		for dir := path.Dir(p); dir != "." && !w.dirs[dir]; dir = path.Dir(dir) {
			w.dirs[dir] = true
		}
	}
	start := time.Now()
	if len(paths) == 0 || w.push(head.hash, paths) != nil {
		return nil
	}
	for steps := 0; len(w.waiting) > 0 && steps < maxHistory && time.Since(start) < maxHistoryTime && ctx.Err() == nil; steps++ {
		if w.step() != nil {
			break // where a shallow history ends, or an object is missing: what is found is true
		}
	}
	return w.found
}

type walk struct {
	objects storer.EncodedObjectStorer
	found   map[string]lastChange
	dirs    map[string]bool // that hold files asked for
	commits map[plumbing.Hash]*object.Commit
	waiting map[plumbing.Hash]map[string]bool // files to be explained by a commit or those before it
}

func (w *walk) push(hash plumbing.Hash, paths map[string]bool) error {
	if _, ok := w.commits[hash]; !ok {
		c, err := object.GetCommit(w.objects, hash)
		if err != nil {
			return err
		}
		w.commits[hash] = c
	}
	if w.waiting[hash] == nil {
		w.waiting[hash] = map[string]bool{}
	}
	maps.Copy(w.waiting[hash], paths)
	return nil
}

// step explains the files of the newest commit that has any, or hands them on to its parents.
func (w *walk) step() error {
	hash := w.newest()
	c, paths := w.commits[hash], w.waiting[hash]
	delete(w.waiting, hash)
	delete(w.commits, hash)
	for _, parent := range c.ParentHashes {
		changed, err := w.changed(c.TreeHash, parent, paths)
		if err != nil {
			return err
		}
		same := map[string]bool{}
		for p := range paths {
			if !changed[p] {
				same[p] = true
			}
		}
		if len(same) == 0 {
			continue
		}
		if err := w.push(parent, same); err != nil {
			return err
		}
		paths = changed
	}
	for p := range paths {
		w.found[p] = lastChange{hash.String(), authorOf(c)}
	}
	return nil
}

func (w *walk) newest() plumbing.Hash {
	hashes := slices.Collect(maps.Keys(w.waiting))
	return slices.MaxFunc(hashes, func(a, b plumbing.Hash) int {
		return w.commits[a].Committer.When.Compare(w.commits[b].Committer.When)
	})
}

// changed returns those of paths that differ between a tree and that of a parent.
func (w *walk) changed(tree, parent plumbing.Hash, paths map[string]bool) (map[string]bool, error) {
	c, err := object.GetCommit(w.objects, parent)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	return out, w.compare(tree, c.TreeHash, "", paths, out)
}

func (w *walk) compare(a, b plumbing.Hash, under string, paths, out map[string]bool) error {
	if a == b {
		return nil
	}
	here, err := w.entries(a)
	if err != nil {
		return err
	}
	before, err := w.entries(b)
	if err != nil {
		return err
	}
	for name, entry := range here {
		full := path.Join(under, name)
		was := before[name]
		switch {
		case entry.Hash == was.Hash && entry.Mode == was.Mode:
		case entry.Mode == filemode.Dir:
			if !w.dirs[full] {
				continue
			}
			if err := w.compare(entry.Hash, treeHash(was), full, paths, out); err != nil {
				return err
			}
		case paths[full]:
			out[full] = true
		}
	}
	return nil
}

// treeHash is the hash of a directory, none for what else stood in its place.
func treeHash(e object.TreeEntry) plumbing.Hash {
	if e.Mode != filemode.Dir {
		return plumbing.ZeroHash
	}
	return e.Hash
}

func (w *walk) entries(tree plumbing.Hash) (map[string]object.TreeEntry, error) {
	out := map[string]object.TreeEntry{}
	if tree.IsZero() {
		return out, nil
	}
	t, err := object.GetTree(w.objects, tree)
	if err != nil {
		return nil, err
	}
	for _, entry := range t.Entries {
		out[entry.Name] = entry
	}
	return out, nil
}
