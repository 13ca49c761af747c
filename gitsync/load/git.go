package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// ErrNoPath says that a commit has no directory where --path wants one.
var ErrNoPath = errors.New("no such directory in the commit")

// gitTree reads a commit straight from the object database.
type gitTree struct {
	store  storer.EncodedObjectStorer
	root   plumbing.Hash
	prefix string
}

// Git returns the part of a commit under dir ("" for all of it). It is ErrNoPath if that is no directory of the commit. The
// tree reads store from one goroutine at a time.
func Git(store storer.EncodedObjectStorer, commit plumbing.Hash, dir string) (Tree, error) {
	c, err := gitobject.GetCommit(store, commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", commit, err)
	}
	t := &gitTree{store: store, root: c.TreeHash, prefix: strings.Trim(path.Clean("/"+dir), "/")}
	if t.prefix == "" {
		return t, nil
	}
	for _, name := range strings.Split(t.prefix, "/") {
		entries, err := t.list(t.root, "")
		if err != nil {
			return nil, fmt.Errorf("read tree %s of commit %s: %w", t.root, commit, err)
		}
		next, ok := subtree(entries, name)
		if !ok {
			return nil, fmt.Errorf("path %q of commit %.12s: %w", t.prefix, commit.String(), ErrNoPath)
		}
		t.root = next
	}
	return t, nil
}

func subtree(entries []Entry, name string) (plumbing.Hash, bool) {
	for _, e := range entries {
		if e.Path == name && e.Mode == ModeDir {
			return plumbing.NewHash(e.ID), true
		}
	}
	return plumbing.ZeroHash, false
}

func (t *gitTree) Prefix() string { return t.prefix }

func (t *gitTree) List(_ context.Context, dir Entry) (entries []Entry, err error) {
	defer damaged(&err)
	hash := t.root
	if dir.Path != "" {
		hash = plumbing.NewHash(dir.ID)
	}
	return t.list(hash, dir.Path)
}

func (t *gitTree) list(hash plumbing.Hash, under string) ([]Entry, error) {
	if err := t.checkSize(hash, maxDirBytes); err != nil {
		return nil, err
	}
	tree, err := gitobject.GetTree(t.store, hash)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(tree.Entries))
	for i, e := range tree.Entries {
		// Not path.Join: a hostile name must arrive as it is.
		name := e.Name
		if under != "" {
			name = under + "/" + e.Name
		}
		entries[i] = Entry{Path: name, Mode: modeOf(e.Mode), ID: e.Hash.String()}
	}
	return entries, nil
}

func modeOf(m filemode.FileMode) Mode {
	switch m {
	case filemode.Regular, filemode.Executable, filemode.Deprecated:
		return ModeFile
	case filemode.Dir:
		return ModeDir
	case filemode.Symlink:
		return ModeSymlink
	case filemode.Submodule:
		return ModeSubmodule
	}
	return ModeOther
}

func (t *gitTree) Read(_ context.Context, file Entry, limit int64) (data []byte, err error) {
	defer damaged(&err)
	hash := plumbing.NewHash(file.ID)
	if err := t.checkSize(hash, limit); err != nil {
		return nil, err
	}
	blob, err := t.store.EncodedObject(plumbing.BlobObject, hash)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", hash, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", hash, err)
	}
	// One byte more than the header promised would be a lie of the pack.
	data, err = io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("blob %s: %w", hash, err)
	}
	if int64(len(data)) > limit {
		return nil, &TooLargeError{Size: int64(len(data)), Limit: limit}
	}
	return data, nil
}

// damaged turns a panic of the Git library, which some corrupt packs bring about, into an error of the one tree.
func damaged(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("the object database is damaged: %v", reason)
	}
}

// checkSize asks for the size in the object's header, so that a bomb is never unpacked.
func (t *gitTree) checkSize(hash plumbing.Hash, limit int64) error {
	size, err := t.store.EncodedObjectSize(hash)
	if err != nil {
		return fmt.Errorf("object %s: %w", hash, err)
	}
	if size > limit {
		return &TooLargeError{Size: size, Limit: limit}
	}
	return nil
}
