package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// objectCache bounds the memory for unpacked objects. Manifests are cached in their decoded form elsewhere; this only has
// to hold the bases of deltas while a tree is read.
const objectCache = 16 * cache.MiByte

// localSource is a repository on this machine: a worktree, a linked worktree or a bare one. It is read where it is.
type localSource struct {
	dir    string
	opened *localRepo // nil until it is used, and after it was found out of date
}

// localRepo is an open repository.
type localRepo struct {
	gitDir    string // holds HEAD
	commonDir string // holds refs, packed-refs and objects; another one only for linked worktrees
	*filesystem.Storage
}

// gitDirs finds the repository's own directories from that of its worktree, or of itself.
func gitDirs(dir string) (gitDir, commonDir string, err error) {
	gitDir = dir
	info, err := os.Stat(filepath.Join(dir, ".git"))
	switch {
	case err == nil && info.IsDir():
		gitDir = filepath.Join(dir, ".git")
	case err == nil:
		if gitDir, err = pointer(filepath.Join(dir, ".git"), "gitdir: "); err != nil {
			return "", "", err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	}
	if _, err := os.Stat(filepath.Join(gitDir, "HEAD")); err != nil {
		return "", "", notARepository(dir, err)
	}
	commonDir, err = pointer(filepath.Join(gitDir, "commondir"), "")
	if errors.Is(err, fs.ErrNotExist) {
		return gitDir, gitDir, nil
	}
	return gitDir, commonDir, err
}

func notARepository(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist", dir)
	}
	for parent := filepath.Dir(dir); parent != filepath.Dir(parent); parent = filepath.Dir(parent) {
		if _, err := os.Stat(filepath.Join(parent, ".git")); err == nil {
			return fmt.Errorf("%s is inside the Git repository %s: give that as --repo, and the directory below it as --path", dir, parent)
		}
	}
	return fmt.Errorf("%s is not a Git repository", dir)
}

// pointer reads a file that names another directory, relative to its own.
func pointer(file, prefix string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	target, ok := strings.CutPrefix(strings.TrimSpace(string(text)), strings.TrimSpace(prefix))
	target = strings.TrimSpace(target)
	if !ok || target == "" {
		return "", fmt.Errorf("%s does not say where its repository is", file)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(file), target)
	}
	return filepath.Clean(target), nil
}

func openLocal(dir string) (*localRepo, error) {
	gitDir, commonDir, err := gitDirs(dir)
	if err != nil {
		return nil, err
	}
	if err := checkFormat(commonDir); err != nil {
		return nil, err
	}
	var files billy.Filesystem = osfs.New(gitDir)
	if commonDir != gitDir {
		files = dotgit.NewRepositoryFilesystem(osfs.New(gitDir), osfs.New(commonDir))
	}
	storage := filesystem.NewStorageWithOptions(files, cache.NewObjectLRU(objectCache), filesystem.Options{
		KeepDescriptors: true, AlternatesFS: osfs.New("/"),
	})
	return &localRepo{gitDir, commonDir, storage}, nil
}

// checkFormat refuses what go-git would misread, in words that help.
func checkFormat(commonDir string) error {
	file, err := os.Open(filepath.Join(commonDir, "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	cfg, err := config.ReadConfig(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Name(), err)
	}
	extensions := cfg.Raw.Section("extensions")
	if format := extensions.Option("objectFormat"); format != "" && !strings.EqualFold(format, "sha1") {
		return fmt.Errorf("the repository's object format is %s: Mainstay reads SHA-1 repositories only", format)
	}
	if format := extensions.Option("refStorage"); format != "" && !strings.EqualFold(format, "files") {
		return fmt.Errorf("the repository keeps its references as %s, which Mainstay cannot read: convert it with `git refs migrate --ref-format=files`", format)
	}
	return nil
}

func (s *localSource) repo() (*localRepo, error) {
	if s.opened == nil {
		repo, err := openLocal(s.dir)
		if err != nil {
			return nil, err
		}
		s.opened = repo
	}
	return s.opened, nil
}

// Close implements io.Closer.
func (s *localSource) Close() error {
	if s.opened == nil {
		return nil
	}
	repo := s.opened
	s.opened = nil
	return repo.Close()
}

func (s *localSource) head(_ context.Context, branch string) (head, error) {
	// Directories are found anew: the repository may have been replaced by another one.
	if gitDir, _, err := gitDirs(s.dir); err != nil || s.opened != nil && gitDir != s.opened.gitDir {
		if err := errors.Join(err, s.Close()); err != nil {
			return head{}, err
		}
	}
	repo, err := s.repo()
	if err != nil {
		return head{}, err
	}
	name := branchRef(branch)
	if branch == "" {
		if name, err = repo.headTarget(); err != nil {
			return head{}, err
		}
	}
	if name == "" {
		return repo.search(branch, name)
	}
	if ref, err := storer.ResolveReference(repo, name); err == nil {
		return head{name.Short(), ref.Hash()}, nil
	} else if !errors.Is(err, plumbing.ErrReferenceNotFound) {
		return head{}, fmt.Errorf("read %s: %w", name, err)
	}
	return repo.search(branch, name)
}

// headTarget is the branch that HEAD names, "" if it names a commit.
func (r *localRepo) headTarget() (plumbing.ReferenceName, error) {
	ref, err := r.Reference(plumbing.HEAD)
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	return ref.Target(), nil
}

// search lists every reference, to say what there is instead of what was asked for.
func (r *localRepo) search(branch string, target plumbing.ReferenceName) (head, error) {
	refs, err := r.IterReferences()
	if err != nil {
		return head{}, fmt.Errorf("list references: %w", err)
	}
	found := map[plumbing.ReferenceName]plumbing.Hash{}
	if err := refs.ForEach(func(ref *plumbing.Reference) error {
		if ref.Type() == plumbing.HashReference {
			found[ref.Name()] = ref.Hash()
		}
		return nil
	}); err != nil {
		return head{}, fmt.Errorf("list references: %w", err)
	}
	return choose(branch, target, found)
}

func (s *localSource) objects(_ context.Context, at head, fresh freshness) (storer.EncodedObjectStorer, error) {
	if fresh == rebuilt {
		if err := s.Close(); err != nil {
			return nil, err
		}
	}
	repo, err := s.repo()
	if err != nil {
		return nil, err
	}
	// New packs are found by looking again, which costs a read of the directory.
	if repo.HasEncodedObject(at.hash) != nil {
		repo.Reindex()
	}
	return repo, nil
}
