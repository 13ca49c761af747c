package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// Looking up references is one exchange of a few kilobytes.
	lookTimeout = 20 * time.Second
	// A depth of one is megabytes at most; a server that takes longer is hanging, or the next attempt gets more time.
	fetchTimeout    = 60 * time.Second
	maxFetchTimeout = 10 * time.Minute
	// Nothing tidies up a cache: it is made anew when fetches have left this many packs.
	maxPacks = 50
	// A tree of 32 MiB of manifests compresses to a fraction of this, so a larger cache holds something else.
	maxCacheBytes = 1 << 30
)

// remoteSource is a repository on another machine, with a bare copy of its newest commit in a cache. The cache is never
// trusted: whatever is wrong with it, it is deleted and made anew.
type remoteSource struct {
	Config
	at      location
	cache   *filesystem.Storage // nil until it is used
	expired int                 // fetches in a row that ran out of time
}

// Close implements io.Closer.
func (s *remoteSource) Close() error {
	if s.cache == nil {
		return nil
	}
	storage := s.cache
	s.cache = nil
	return storage.Close()
}

// watch implements source.
func (s *remoteSource) watch(context.Context, chan<- struct{}) error { return errNoWatch }

// connection is one remote with credentials, for one operation.
type connection struct {
	url   string
	auth  transport.AuthMethod
	close func()
}

func (s *remoteSource) connect(ctx context.Context) (connection, error) {
	if s.at.kind == secureShell {
		return s.connectSSH(ctx)
	}
	auth, err := s.webAuth()
	return connection{url: s.at.String(), auth: auth, close: func() {}}, err
}

func (s *remoteSource) head(ctx context.Context, branch string) (head, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("no answer within %s", lookTimeout))
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return head{}, err
	}
	defer conn.close()
	remote := git.NewRemote(nil, &config.RemoteConfig{Name: "origin", URLs: []string{conn.url}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: conn.auth})
	if err != nil && !errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return head{}, s.explain(ctx, "look up the branch", err)
	}
	found, target := map[plumbing.ReferenceName]plumbing.Hash{}, plumbing.ReferenceName("")
	for _, ref := range refs {
		switch {
		case ref.Name() == plumbing.HEAD && ref.Type() == plumbing.SymbolicReference:
			target = ref.Target()
		case ref.Type() == plumbing.HashReference:
			found[ref.Name()] = ref.Hash()
		}
	}
	return choose(branch, target, found)
}

func (s *remoteSource) objects(ctx context.Context, at head, fresh freshness) (storer.EncodedObjectStorer, error) {
	if fresh == rebuilt {
		if err := s.discard(); err != nil {
			return nil, err
		}
	}
	err := s.fetch(ctx, at)
	if err != nil && ctx.Err() == nil && !s.blameless(err) {
		// The cache may be at fault: once more without it.
		if err := s.discard(); err != nil {
			return nil, err
		}
		err = s.fetch(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	return s.cache, nil
}

// blameless says that an error is the other side's, or the network's.
func (s *remoteSource) blameless(err error) bool {
	var unreachable *unreachableError
	return errors.As(err, &unreachable)
}

func (s *remoteSource) fetch(ctx context.Context, at head) error {
	if err := s.openCache(); err != nil {
		return err
	}
	if commit, err := object.GetCommit(s.cache, at.hash); err == nil {
		if _, err := commit.Tree(); err == nil {
			return nil
		}
	}
	timeout := min(fetchTimeout<<min(s.expired, 4), maxFetchTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not finished within %s", timeout))
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return &unreachableError{err}
	}
	defer conn.close()
	err = s.fetchFrom(ctx, conn, at)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.expired++
	} else {
		s.expired = 0
	}
	return err
}

func (s *remoteSource) fetchFrom(ctx context.Context, conn connection, at head) error {
	ctx, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchSize(ctx, stop)
	}()
	defer func() {
		stop(nil)
		<-watched
	}()
	ref := branchRef(at.branch)
	remote := git.NewRemote(s.cache, &config.RemoteConfig{Name: "origin", URLs: []string{conn.url}})
	err := remote.FetchContext(ctx, &git.FetchOptions{
		Auth: conn.auth, Depth: 1, Force: true, Tags: git.NoTags,
		RefSpecs: []config.RefSpec{config.RefSpec("+" + ref.String() + ":" + ref.String())},
	})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return s.explain(ctx, "fetch", err)
	}
	// Only so that git itself can look at the copy.
	if err := s.cache.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, ref)); err != nil {
		return fmt.Errorf("copy of %s: %w", s.at, err)
	}
	if _, err := object.GetCommit(s.cache, at.hash); err != nil {
		// The branch moved between the look and the fetch: what was fetched is found at the next look.
		return &unreachableError{fmt.Errorf("%s: branch %s moved while it was fetched", s.at, at.branch)}
	}
	return nil
}

// watchSize ends an endless pack before it fills the disk.
func (s *remoteSource) watchSize(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if size := sizeOf(s.CacheDir); size > maxCacheBytes {
				stop(fmt.Errorf("the repository's newest commit takes more than %d MiB", maxCacheBytes>>20))
				return
			}
		}
	}
}

func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was a temporary file
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// openCache opens the cache, or makes an empty one. A cache that a crash left in pieces, that belongs to another
// repository or has grown old is made anew.
func (s *remoteSource) openCache() error {
	if s.cache != nil {
		if packs, err := s.cache.ObjectPacks(); err == nil && len(packs) <= maxPacks {
			return nil
		}
	}
	if s.foreign() || s.cache != nil {
		if err := s.discard(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.CacheDir, 0o700); err != nil {
		return fmt.Errorf("make a directory for the copy of %s: %w", s.at, err)
	}
	storage := filesystem.NewStorageWithOptions(osfs.New(s.CacheDir), cache.NewObjectLRU(objectCache), filesystem.Options{KeepDescriptors: true})
	if packs, err := storage.ObjectPacks(); err != nil || len(packs) > maxPacks {
		if err := s.discard(); err != nil {
			return err
		}
		return s.openCache()
	}
	if err := errors.Join(storage.Init(), os.WriteFile(s.owner(), []byte(s.at.String()), 0o600)); err != nil {
		return fmt.Errorf("make a copy of %s: %w", s.at, err)
	}
	s.cache = storage
	return nil
}

// owner is a file that says which repository the cache is a copy of.
func (s *remoteSource) owner() string { return filepath.Join(s.CacheDir, "mainstay-origin") }

func (s *remoteSource) foreign() bool {
	name, err := os.ReadFile(s.owner())
	return err != nil || string(name) != s.at.String()
}

func (s *remoteSource) discard() error {
	if err := errors.Join(s.Close(), os.RemoveAll(s.CacheDir)); err != nil {
		return fmt.Errorf("delete the damaged copy of %s: %w", s.at, err)
	}
	return nil
}

// unreachableError is an error that no new cache would mend.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// explain says what failed in words that name the repository, the cause and, where there is one, the remedy. It never
// repeats credentials.
func (s *remoteSource) explain(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return &unreachableError{fmt.Errorf("%s: %s: %w", s.at, doing, cause)}
	}
	var remedy string
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		remedy = "; the server wants other credentials: check the token, or the file it is in"
	case errors.Is(err, transport.ErrRepositoryNotFound):
		remedy = "; check its address, and that the credentials may read it"
	default:
		if hint := sshRemedy(err); hint != "" {
			remedy = hint
			break
		}
		text := errors.New(redact(err.Error()))
		if isNetwork(err) {
			return &unreachableError{fmt.Errorf("%s: %s: %w", s.at, doing, text)}
		}
		return fmt.Errorf("%s: %s: %w", s.at, doing, text)
	}
	return &unreachableError{fmt.Errorf("%s: %s: %s%s", s.at, doing, redact(err.Error()), remedy)}
}
