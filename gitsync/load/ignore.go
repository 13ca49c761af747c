package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// ignoreName is the file that names what is not to be read, in any directory, for what is below it.
const ignoreName = ".mainstayignore"

// ignore is the rules that hold in a directory.
type ignore struct{ patterns []gitignore.Pattern }

func (i ignore) matches(e Entry) bool {
	return len(i.patterns) > 0 && gitignore.NewMatcher(i.patterns).Match(strings.Split(e.Path, "/"), e.Mode == ModeDir)
}

// ignoreFile adds a directory's own rules, which go before those from above.
func (w *walker) ignoreFile(ctx context.Context, dir Entry, entries []Entry, rules ignore) (ignore, error) {
	for _, e := range entries {
		if path.Base(e.Path) != ignoreName {
			continue
		}
		if e.Mode != ModeFile {
			w.found.problem(e.Path, "must be a plain file")
			return rules, nil
		}
		text, err := w.tree.Read(ctx, e, maxIgnoreBytes)
		var large *TooLargeError
		if errors.As(err, &large) {
			w.found.problem(e.Path, "is %d bytes large; at most %d are read", large.Size, large.Limit)
			return rules, nil
		}
		if err != nil {
			return rules, fmt.Errorf("read %s: %w", path.Join(w.tree.Prefix(), e.Path), err)
		}
		return rules.with(text, dir.Path), nil
	}
	return rules, nil
}

func (i ignore) with(text []byte, dir string) ignore {
	var domain []string
	if dir != "" {
		domain = strings.Split(dir, "/")
	}
	all := append([]gitignore.Pattern(nil), i.patterns...)
	for line := range bytes.Lines(text) {
		rule := strings.TrimRight(string(line), "\r\n")
		if rule = strings.TrimRight(rule, " "); rule == "" || strings.HasPrefix(rule, "#") {
			continue
		}
		all = append(all, gitignore.ParsePattern(rule, domain))
	}
	return ignore{patterns: all}
}

// dirCache remembers what directories hold, by content and place, so that an unchanged one is not read again.
type dirCache struct {
	mu      sync.Mutex
	lists   map[dirKey][]Entry // guarded by mu
	entries int                // in lists, together
}

type dirKey struct{ id, path string }

func (c *dirCache) get(dir Entry) ([]Entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, ok := c.lists[dirKey{dir.ID, dir.Path}]
	return entries, ok
}

// put forgets everything when five whole trees' worth has gathered: a walk fills it again in milliseconds.
func (c *dirCache) put(dir Entry, entries []Entry) {
	if dir.ID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries += len(entries) + 1; c.lists == nil || c.entries > 5*maxEntries {
		c.lists, c.entries = make(map[dirKey][]Entry), len(entries)+1
	}
	c.lists[dirKey{dir.ID, dir.Path}] = entries
}
