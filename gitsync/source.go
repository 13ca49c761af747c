package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// source is where commits come from. It is for one goroutine at a time.
type source interface {
	// head finds the branch, the repository's own choice if it is "", and the commit it is at. It is cheap.
	head(ctx context.Context, branch string) (head, error)
	// objects returns a database that holds the commit and its tree. fresh says that what was returned before turned out
	// to lack something.
	objects(ctx context.Context, at head, fresh freshness) (storer.EncodedObjectStorer, error)
	// watch sends to hints when the head may have moved, until ctx ends. errNoWatch: the source can only be polled.
	watch(ctx context.Context, hints chan<- struct{}) error
	io.Closer
}

// freshness says how far what is at hand is trusted.
type freshness int

const (
	asItIs  freshness = iota
	rebuilt           // start over: the copy at hand is damaged or out of date
)

// head is a branch and the commit it is at.
type head struct {
	branch string // without refs/heads/
	hash   plumbing.Hash
}

var errNoWatch = errors.New("this repository sends no events")

// open makes the source a Config names, without touching the network.
func open(c Config) (source, error) {
	at, err := parseLocation(c.Repo)
	if err != nil {
		return nil, err
	}
	if at.kind == local {
		return &localSource{dir: at.dir}, nil
	}
	if c.CacheDir == "" {
		return nil, fmt.Errorf("repository %s: no directory is configured to keep a copy in", at)
	}
	return &remoteSource{Config: c, at: at}, nil
}

// branchRef accepts a branch with or without refs/heads/.
func branchRef(branch string) plumbing.ReferenceName {
	return plumbing.NewBranchReferenceName(strings.TrimPrefix(branch, "refs/heads/"))
}

// choose finds the branch to follow among references: a map of full names, and what HEAD points to.
func choose(branch string, target plumbing.ReferenceName, refs map[plumbing.ReferenceName]plumbing.Hash) (head, error) {
	name := target
	if branch != "" {
		name = branchRef(branch)
	}
	if hash, ok := refs[name]; ok {
		return head{name.Short(), hash}, nil
	}
	var others []string
	for ref := range refs {
		if ref.IsBranch() {
			others = append(others, ref.Short())
		}
	}
	slices.Sort(others)
	switch {
	case len(others) == 0:
		return head{}, errors.New("the repository has no commits yet: commit something to it")
	case name == "":
		return head{}, fmt.Errorf("the repository's HEAD names no branch: choose one with --branch; it has %s", few(others))
	case branch == "":
		return head{}, fmt.Errorf("the repository's HEAD points to branch %s, which has no commits: choose another with --branch; it has %s", name.Short(), few(others))
	}
	return head{}, fmt.Errorf("the repository has no branch %s; it has %s", name.Short(), few(others))
}

func few(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
