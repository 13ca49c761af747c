package cli

import (
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
)

// openRepository opens the repository that the current directory is in.
func openRepository() (*git.Repository, error) {
	repo, err := git.PlainOpenWithOptions(".", &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, advice{"the current directory is not in a Git repository", err}
	}
	if err != nil {
		return nil, fmt.Errorf("open the Git repository here: %w", err)
	}
	return repo, nil
}

// resolveRef finds the commit that text means in the repository here.
func resolveRef(text string) (string, error) {
	repo, err := openRepository()
	if err != nil {
		return "", fmt.Errorf("%q is not a commit hash, and %w", text, err)
	}
	hash, err := resolve(repo, text)
	if err != nil {
		return "", err
	}
	return hash.String(), nil
}

func resolve(repo *git.Repository, text string) (plumbing.Hash, error) {
	hash, err := repo.ResolveRevision(plumbing.Revision(text))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, advice{fmt.Sprintf("%q names no commit of the repository here", text), err}
	}
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("%q names no commit of the repository here: %w", text, err)
	}
	return *hash, nil
}
