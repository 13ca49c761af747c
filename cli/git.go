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

// lacks reports whether commit and all that comes before it is known here, and head is not in it: who follows a branch that has just
// come to head will see commit only if the branch is forced back to it. commit may be the beginning of a hash.
func lacks(commit, head string) bool {
	repo, err := openRepository()
	if err != nil {
		return false
	}
	if cut, err := repo.Storer.Shallow(); err != nil || len(cut) > 0 {
		return false
	}
	hash, err := resolve(repo, commit)
	if err != nil || hash == plumbing.NewHash(head) {
		return false
	}
	awaited, err := repo.CommitObject(hash)
	if err != nil {
		return false
	}
	at, err := repo.CommitObject(plumbing.NewHash(head))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return true
	}
	if err != nil {
		return false
	}
	isBefore, err := at.IsAncestor(awaited)
	return err == nil && !isBefore
}

// leadsTo reports whether the repository here knows that commit comes before head, so that who follows a branch that is at head
// will not see commit any more. It is false for what is not known here, and if the branch here stands at commit: then it has
// been put back, and the cluster has yet to see that. commit may be the beginning of a hash.
func leadsTo(commit, head, branch string) bool {
	repo, err := openRepository()
	if err != nil {
		return false
	}
	before, err := resolve(repo, commit)
	if err != nil || before == plumbing.NewHash(head) {
		return false
	}
	for _, name := range []plumbing.ReferenceName{plumbing.NewBranchReferenceName(branch), plumbing.NewRemoteReferenceName("origin", branch)} {
		if ref, err := repo.Reference(name, true); err == nil && ref.Hash() == before {
			return false
		}
	}
	first, err := repo.CommitObject(before)
	if err != nil {
		return false
	}
	last, err := repo.CommitObject(plumbing.NewHash(head))
	if err != nil {
		return false
	}
	isBefore, err := first.IsAncestor(last)
	return err == nil && isBefore
}
