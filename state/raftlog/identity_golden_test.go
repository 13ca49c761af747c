package raftlog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The files in testdata were written once, each by the version that had that form. What they mean may never change.
func TestIdentitiesOfEveryFormAreReadForEver(t *testing.T) {
	for name, want := range map[string]known{
		"form1": {Server: "server", Member: "server", Term: 3, Index: 8192},
		"form2": {
			Server: "s1", Member: "s1#0a1b2c3d", Term: 7, Index: 4100, Voter: true, Lost: true,
			Peers: []peer{{Server: "s2", Address: "192.0.2.2:7443", Voter: true}, {Server: "s3", Address: "192.0.2.3:7443"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			kept, err := os.ReadFile(filepath.Join("testdata/identity", name))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "identity")
			if err := os.WriteFile(path, kept, 0o600); err != nil {
				t.Fatal(err)
			}
			id, err := loadIdentity(path, Config{ID: want.Server})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, id.now()); diff != "" {
				t.Error(diff)
			}
			if err := id.store(); err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(path); err != nil || name == "form2" && !bytes.Equal(now, kept) {
				t.Errorf("it is written otherwise now: give it another form, and keep reading this one: %s, %v", now, err)
			}
		})
	}
}
