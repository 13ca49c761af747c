package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestReplaceFileLeavesTheNewFileAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"a longer text", "short"} {
		if err := ReplaceFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%q, %v, want %q", got, err, content)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want a file for its owner alone", info, err)
	}
	if got := entries(t, dir); len(got) != 1 {
		t.Errorf("%q are in the directory", got)
	}
}

func TestReplaceFileThatCannotReplaceLeavesWhatWas(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil { // a rename over it fails
		t.Fatal(err)
	}
	if err := ReplaceFile(path, nil); err == nil {
		t.Error("a directory was replaced")
	}
	if got := entries(t, dir); len(got) != 1 {
		t.Errorf("%q are in the directory", got)
	}
}
