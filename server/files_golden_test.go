package server

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

// The files in testdata are as servers and agents have written them. What they mean may never change.
func TestFilesOfAServerAreReadForEver(t *testing.T) {
	want := membership{
		Name: "s2", Joined: true, Servers: []string{"192.0.2.1:7443", "192.0.2.2:7443"},
		Repo: "https://git.example.com/ops/deploy.git", Branch: "main", Path: "clusters/prod",
	}
	got, err := readMembership("testdata/files")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	dir := t.TempDir()
	if err := want.keep(dir); err != nil {
		t.Fatal(err)
	}
	kept, _ := os.ReadFile(filepath.Join("testdata/files", membershipFile))
	if now, err := os.ReadFile(filepath.Join(dir, membershipFile)); err != nil || !bytes.Equal(now, kept) {
		t.Errorf("it is written otherwise now: keep reading the form that it had: %s, %v", now, err)
	}
}

func TestFilesOfANodeAreReadForEver(t *testing.T) {
	dir := t.TempDir()
	for from, to := range map[string]string{"testdata/files": dir, "pki/testdata/node": filepath.Join(dir, identityDir)} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := enrol(t.Context(), AgentConfig{DataDir: dir, Servers: []string{"192.0.2.9:7443"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"192.0.2.1:7443", "192.0.2.2:7443"}; a.name != "n1" || a.cluster != "home" || !slices.Equal(a.learned, want) {
		t.Errorf("node %q of cluster %q, whose servers are at %q", a.name, a.cluster, a.learned)
	}
	if held, ok := a.identity.(*pki.Held); !ok || held.Name() != "n1" {
		t.Errorf("its certificate is %v", a.identity)
	}
	if name, err := chosenName(dir, ""); err != nil || name != "n1" {
		t.Errorf("its name is %q, %v", name, err)
	}
}
