package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
)

// worktree is the manifests in a directory as they are, without what Git ignores. Problems name its files below prefix.
func worktree(dir, prefix string) (load.Tree, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no directory %s", dir)
	}
	tree, err := load.Dir(dir, prefix)
	if err != nil {
		return nil, err
	}
	root, err := worktreeRoot(dir)
	if err != nil || root == "" {
		return tree, err
	}
	absolute, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	below, err := filepath.Rel(root, absolute)
	if err != nil {
		return nil, fmt.Errorf("find %s in its repository %s: %w", dir, root, err)
	}
	patterns, err := gitignore.ReadPatterns(osfs.New(root), nil)
	if err != nil {
		return nil, fmt.Errorf("read what Git ignores in %s: %w", root, err)
	}
	return &trackable{Tree: tree, below: splitPath(below), ignored: gitignore.NewMatcher(patterns)}, nil
}

// worktreeRoot is the top of the Git worktree that dir is in, "" if it is in none.
func worktreeRoot(dir string) (string, error) {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open the Git repository of %s: %w", dir, err)
	}
	tree, err := repo.Worktree()
	if errors.Is(err, git.ErrIsBareRepository) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open the Git worktree of %s: %w", dir, err)
	}
	return realPath(tree.Filesystem.Root())
}

func realPath(dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
}

func splitPath(p string) []string {
	if p = filepath.ToSlash(filepath.Clean(p)); p == "." {
		return nil
	}
	return strings.Split(p, "/")
}

// trackable is a Tree without what Git ignores, and without what it keeps for itself.
type trackable struct {
	load.Tree
	below   []string // where the tree stands in its repository
	ignored gitignore.Matcher
}

// List implements load.Tree.
func (t *trackable) List(ctx context.Context, dir load.Entry) ([]load.Entry, error) {
	entries, err := t.Tree.List(ctx, dir)
	return slices.DeleteFunc(entries, func(e load.Entry) bool {
		return path.Base(e.Path) == git.GitDirName || t.ignored.Match(slices.Concat(t.below, strings.Split(e.Path, "/")), e.Mode == load.ModeDir)
	}), err
}

// What a server takes in one request for a plan; the loader has already refused more.
const (
	maxUploadFile = 1 << 20
	maxDepth      = 32
)

// collect reads what a server needs of a tree: the manifests and what says which of them to skip, named from the tree's root.
func collect(ctx context.Context, tree load.Tree) (map[string][]byte, error) {
	files := map[string][]byte{}
	var walk func(dir load.Entry, depth int) error
	walk = func(dir load.Entry, depth int) error {
		entries, err := tree.List(ctx, dir)
		if err != nil || depth > maxDepth {
			return err
		}
		for _, e := range entries {
			switch {
			case e.Mode == load.ModeDir && !strings.HasPrefix(path.Base(e.Path), "."):
				err = walk(e, depth+1)
			case e.Mode == load.ModeFile && isManifest(e.Path):
				files[e.Path], err = tree.Read(ctx, e, maxUploadFile)
			}
			var large *load.TooLargeError
			if err != nil && !errors.As(err, &large) { // too large and not a problem: it is to be skipped
				return err
			}
		}
		return nil
	}
	if err := walk(load.Entry{Mode: load.ModeDir}, 0); err != nil {
		return nil, fmt.Errorf("collect the manifests: %w", err)
	}
	return files, nil
}

func isManifest(name string) bool {
	base := path.Base(name)
	if base == ".mainstayignore" {
		return true
	}
	return !strings.HasPrefix(base, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(base))
}

// isDirectory reports whether name is a directory here.
func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
