package docker

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestRemovingAPodUnderALinkedDataDirectoryLeavesTheHostsFiles(t *testing.T) {
	base := t.TempDir()
	host, data, link := filepath.Join(base, "host"), filepath.Join(base, "real data"), filepath.Join(base, "link")
	kept := filepath.Join(host, "sub", "kept")
	for _, dir := range []string{filepath.Dir(kept), data} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(kept, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	podDir := filepath.Join(link, "pods", "u")
	target := filepath.Join(podDir, subPathsDir, "main", "0")
	t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	if _, err := bindSubPath(host, "sub", target); err != nil {
		t.Fatal(err)
	}
	if err := removeFiles(podDir); err != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the host's own file: %v", err)
	}
	if _, err := os.Stat(podDir); !os.IsNotExist(err) {
		t.Errorf("the Pod's directory is still there (%v)", err)
	}
}

func TestSubPathExpanded(t *testing.T) {
	env := []string{"A=a", "B=$(A)", "EMPTY=", "AB=ab"}
	for expr, want := range map[string]struct{ sub, err string }{
		"x/$(A)/$(AB)":        {sub: "x/a/ab"},
		"$(B)":                {sub: "$(A)"},
		"$$(A)":               {sub: "$(A)"},
		"$(A)/$(C)/$(EMPTY)x": {err: "missing value for C, EMPTY: set it in the container's env"},
	} {
		sub, err := expandSubPath(expr, env)
		if sub != want.sub || want.err != "" && (err == nil || err.Error() != want.err) || want.err == "" && err != nil {
			t.Errorf("%s: %q, %v; want %+v", expr, sub, err, want)
		}
	}
}
