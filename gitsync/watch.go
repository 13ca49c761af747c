package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxWatched bounds the directories under refs/heads that are watched; beyond it, polling finds the rest.
const maxWatched = 1000

// watch follows the directories through which every reference moves: that of HEAD, that of packed-refs, and refs/heads with
// all below it. Events are hints that never mean anything by themselves: packing references, for one, looks like deleting
// them. An overflow of the queue is a hint too.
func (s *localSource) watch(ctx context.Context, hints chan<- struct{}) error {
	gitDir, commonDir, err := gitDirs(s.dir)
	if err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoWatch, err)
	}
	defer watcher.Close()
	roots := []string{gitDir, commonDir}
	heads := filepath.Join(commonDir, "refs", "heads")
	if err := add(watcher, slices.Concat(roots, []string{filepath.Dir(heads)}), heads); err != nil {
		return fmt.Errorf("%w: %w", errNoWatch, err)
	}
	return hintAtEach(ctx, watcher, roots, heads, hints)
}

// hintAtEach hints at every event, and at the start, until there is nothing more to watch. The first of roots is the repository's.
func hintAtEach(ctx context.Context, watcher *fsnotify.Watcher, roots []string, heads string, hints chan<- struct{}) error {
	gitDir := roots[0]
	self, err := os.Stat(gitDir)
	if err != nil {
		return err
	}
	check := time.NewTicker(localPoll)
	defer check.Stop()
	for {
		hint(hints)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case event, ok := <-watcher.Events:
			if !ok {
				return fmt.Errorf("%w: the watch was closed", errNoWatch)
			}
			if event.Op.Has(fsnotify.Remove) && slices.Contains(roots, event.Name) {
				return fmt.Errorf("%s is gone", event.Name)
			}
			if err := extend(watcher, event, heads); err != nil {
				return fmt.Errorf("%w: %w", errNoWatch, err)
			}
		case <-watcher.Errors:
		case <-check.C:
			// Another repository in the same place has other directories.
			if now, err := os.Stat(gitDir); err != nil || !os.SameFile(self, now) {
				return fmt.Errorf("%s was replaced", gitDir)
			}
		}
	}
}

// extend watches what an event has added below heads: a branch a/b in a new directory a.
func extend(watcher *fsnotify.Watcher, event fsnotify.Event, heads string) error {
	if !event.Op.Has(fsnotify.Create) || !strings.HasPrefix(event.Name, filepath.Dir(heads)) {
		return nil
	}
	return add(watcher, nil, heads) // a file is no error: it merely cannot be walked
}

// hint leaves a token, unless one is there.
func hint(hints chan<- struct{}) {
	select {
	case hints <- struct{}{}:
	default:
	}
}

// add watches dirs, and every directory from tree down. What disappears meanwhile is no error.
func add(watcher *fsnotify.Watcher, dirs []string, tree string) error {
	for _, dir := range dirs {
		if err := watcher.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	count := 0
	return filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		if count++; count > maxWatched {
			return filepath.SkipAll
		}
		if err := watcher.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		return nil
	})
}
