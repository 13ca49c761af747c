package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"
)

func TestLint(t *testing.T) {
	for name, want := range map[string]int{"good": 0, "bad": 1} {
		t.Run(name, func(t *testing.T) {
			got := run(t, "lint", filepath.Join("testdata", "lint", name))
			if got.code != want {
				t.Errorf("code %d, want %d", got.code, want)
			}
			golden(t, "lint-"+name, got.out+got.err)
		})
	}
}

func TestLintAsData(t *testing.T) {
	got := run(t, "lint", "testdata/lint/good", "-o", "json")
	var report LintReport
	if err := json.Unmarshal([]byte(got.out), &report); err != nil || report.Objects != 3 || report.Files != 2 || report.Problems == nil {
		t.Errorf("%v: %s", err, got.out)
	}
	got = run(t, "lint", "testdata/lint/bad", "-o", "yaml")
	if got.code != 1 || !strings.Contains(got.out, "path: testdata/lint/bad/apps/web.yaml") || strings.Contains(got.out, "objects: 0") || strings.Contains(got.out, "topsecret") {
		t.Errorf("code %d: %s", got.code, got.out)
	}
}

func TestLintErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no directory":  {[]string{"testdata/none"}, "there is no directory testdata/none"},
		"a file":        {[]string{"testdata/lint/good/web.yaml"}, "not a directory"},
		"two arguments": {[]string{"a", "b"}, "`mainstay lint` takes at most one argument, the directory to check, not 2"},
	} {
		if got := run(t, append([]string{"lint"}, tc.args...)...); got.code != 2 || !strings.Contains(got.err, tc.want) {
			t.Errorf("%s: code %d, stderr %q, want %q", name, got.code, got.err, tc.want)
		}
	}
}

// repository makes a Git repository of files, committed, and makes it the current directory.
func repository(t *testing.T, files map[string]string) *git.Repository {
	t.Helper()
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	commitFiles(t, repo, files)
	return repo
}

func commitFiles(t *testing.T, repo *git.Repository, files map[string]string) {
	t.Helper()
	tree, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		writeFile(t, name, text)
		if _, err := tree.Add(name); err != nil {
			t.Fatal(err)
		}
	}
	who := &gitobject.Signature{Name: "Ada", Email: "ada@example.org", When: time.Now()}
	if _, err := tree.Commit("Change things\n\nfor a reason", &git.CommitOptions{Author: who}); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func configMap(name, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {k: " + value + "}\n"
}

func TestLintLeavesOutWhatGitIgnores(t *testing.T) {
	repository(t, map[string]string{"deploy/a.yaml": configMap("a", "b"), ".gitignore": "local.yaml\n/deploy/tmp/\n"})
	writeFile(t, "deploy/local.yaml", "kind: Nonsense\n")
	writeFile(t, "deploy/tmp/x.yaml", "kind: Nonsense\n")
	for _, dir := range []string{".", "deploy"} {
		if got := run(t, "lint", dir); got.code != 0 {
			t.Errorf("lint %s: code %d: %s%s", dir, got.code, got.out, got.err)
		}
	}
	writeFile(t, "deploy/seen.yaml", "kind: Nonsense\n")
	if got := run(t, "lint"); got.code != 1 || !strings.HasPrefix(got.out, "deploy/seen.yaml:1:") {
		t.Errorf("code %d: %s%s", got.code, got.out, got.err)
	}
}
