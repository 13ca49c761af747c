package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// dirTree reads a directory on disk.
type dirTree struct {
	root   string
	prefix string
}

// Dir returns a directory on disk, for lint. Problems name its files below prefix, which is usually the directory as the user gave it.
func Dir(root, prefix string) (Tree, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("read manifests: %s is not a directory", root)
	}
	return &dirTree{root: root, prefix: filepath.ToSlash(prefix)}, nil
}

func (t *dirTree) Prefix() string { return t.prefix }

func (t *dirTree) List(_ context.Context, dir Entry) ([]Entry, error) {
	d, err := os.Open(filepath.Join(t.root, filepath.FromSlash(dir.Path)))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, &TooLargeError{Size: int64(len(names)), Limit: maxEntries}
	}
	entries := make([]Entry, len(names))
	for i, e := range names {
		entries[i] = Entry{Path: path.Join(dir.Path, e.Name()), Mode: modeOnDisk(e.Type())}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return entries, nil
}

func modeOnDisk(m fs.FileMode) Mode {
	switch {
	case m.IsRegular():
		return ModeFile
	case m.IsDir():
		return ModeDir
	case m&fs.ModeSymlink != 0:
		return ModeSymlink
	}
	return ModeOther
}

func (t *dirTree) Read(_ context.Context, file Entry, limit int64) ([]byte, error) {
	name := filepath.Join(t.root, filepath.FromSlash(file.Path))
	if file.Mode == ModeSymlink {
		target, err := os.Readlink(name)
		return []byte(filepath.ToSlash(target)), err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, &TooLargeError{Size: info.Size(), Limit: limit}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &TooLargeError{Size: int64(len(data)), Limit: limit}
	}
	return data, nil
}

// fileTree is files in memory.
type fileTree struct {
	files  map[string][]byte
	prefix string
}

// Files returns files that were uploaded, by their path from the tree's root.
func Files(files map[string][]byte, prefix string) Tree {
	return &fileTree{files: files, prefix: prefix}
}

func (t *fileTree) Prefix() string { return t.prefix }

func (t *fileTree) List(_ context.Context, dir Entry) ([]Entry, error) {
	found := make(map[string]Entry)
	for name := range t.files {
		rest, below := name, true
		if dir.Path != "" {
			rest, below = strings.CutPrefix(name, dir.Path+"/")
		}
		if !below {
			continue
		}
		first, _, isDir := strings.Cut(rest, "/")
		e := Entry{Path: path.Join(dir.Path, first), Mode: ModeFile}
		if isDir {
			e.Mode = ModeDir
		}
		found[e.Path] = e
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) }), nil
}

func (t *fileTree) Read(_ context.Context, file Entry, limit int64) ([]byte, error) {
	data, ok := t.files[file.Path]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case int64(len(data)) > limit:
		return nil, &TooLargeError{Size: int64(len(data)), Limit: limit}
	}
	return data, nil
}
