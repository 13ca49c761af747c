package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mainstay-cluster/mainstay/cli"
)

func TestUpNeedsARepository(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	t.Setenv("MAINSTAY_REPO", "")
	var out bytes.Buffer
	cmd := root()
	cmd.SetErr(&out)
	if code := cli.Execute(t.Context(), cmd, []string{"up", "--data-dir", dir}); code != 2 || !strings.Contains(out.String(), "--repo PATH") {
		t.Errorf("code %d: %s", code, out.String())
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it made %s before it knew what for: %v", dir, err)
	}
}

func TestVersionFlag(t *testing.T) {
	t.Setenv("MAINSTAY_VERSION", "v1.2.3") // as a pipeline may set it: it is no flag's value
	for _, args := range [][]string{{"--version"}, {}} {
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		if code := cli.Execute(t.Context(), cmd, args); code != 0 || !strings.Contains(out.String(), "ersion") {
			t.Errorf("%v: code %d: %s", args, code, out.String())
		}
	}
}
