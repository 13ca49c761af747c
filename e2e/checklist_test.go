package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/conformance.md says is shown by a test must be shown by one that exists.
func TestTheChecklistNamesTestsThatExist(t *testing.T) {
	list, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((?:Test|Benchmark)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(list), -1)
	if len(names) < 30 {
		t.Fatalf("only %d tests are named", len(names))
	}
	there := testsThere(t, "..")
	for _, name := range names {
		if !there[name[1]] {
			t.Errorf("%s is no test of this repository", name[1])
		}
	}
}

// testsThere are the names of all tests and benchmarks below a directory.
func testsThere(t *testing.T, root string) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)[A-Za-z0-9]+)\(`)
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range function.FindAllStringSubmatch(string(text), -1) {
			found[name[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
