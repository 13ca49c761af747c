package raftlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mustRefuse expects that dir cannot be opened, for a reason that holds every one of words.
func mustRefuse(t *testing.T, dir string, words ...string) {
	t.Helper()
	s, err := start(dir, 0)
	if err == nil {
		s.stop()
		t.Fatalf("%s was opened, want an error with %q", dir, words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// What is in use is not damaged: it must not be moved away.
func TestALogThatIsInUseIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	mustRefuse(t, dir, "in use by another process")
	s.put(t, "a", "")
}

func TestDirectoryOfAnotherServerIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	open(t, dir).stop()
	for _, name := range []string{"identity", "identity.copy"} {
		edit(t, filepath.Join(dir, name), func([]byte) []byte { return []byte(`{"server":"s2","term":1,"index":1}`) })
	}
	mustRefuse(t, dir, `belongs to server "s2"`)
}

// A bit that flipped in the small file beside the log costs nothing; in both copies of it, nobody knows whose the log is.
func TestTheIdentityHasACopy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	s.put(t, "a", "")
	s.stop()
	flip := func(b []byte) []byte { b[len(b)/3] ^= 4; return b }
	edit(t, filepath.Join(dir, "identity"), flip)
	if s = open(t, dir); !s.has("a") {
		t.Error("the state is gone")
	}
	s.stop()
	edit(t, filepath.Join(dir, "identity"), flip)
	edit(t, filepath.Join(dir, "identity.copy"), flip)
	mustRefuse(t, dir, "identity", "checksum differs", "restore it from a backup")
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An emptied log would otherwise start as a fresh one: votes forgotten, acknowledged writes gone (P10).
func TestALogThatForgotIsRefused(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"emptied":           func([]byte) []byte { return nil },
		"cut in half":       func(b []byte) []byte { return b[:len(b)/2] },
		"meta pages zeroed": func(b []byte) []byte { clear(b[:8192]); return b },
		"all pages but the meta pages overwritten": func(b []byte) []byte {
			for i := 8192; i < len(b); i++ {
				b[i] = 0xaa
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raft")
			s := open(t, dir)
			for i := range 200 {
				s.put(t, fmt.Sprint("cm", i), strings.Repeat("x", 4000))
			}
			s.stop()
			edit(t, filepath.Join(dir, "raft.db"), damage)
			mustRefuse(t, dir, "raft.db", "move it away")
		})
	}
}

func TestADeletedLogIsRefusedButADeletedDirectoryIsAFreshStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	s := open(t, dir)
	s.put(t, "a", "")
	s.stop()
	if err := os.Remove(filepath.Join(dir, "raft.db")); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, dir, "emptied, replaced or restored from an old copy")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if s := open(t, dir); s.has("a") {
		t.Error("a fresh directory knows an old object")
	}
}

// manySnapshots leaves two snapshots and a log that reaches back no further than the older one.
func manySnapshots(t *testing.T, dir string) (newest, older string) {
	t.Helper()
	s, err := start(dir, 500<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	s.awaitLeading(t)
	for i := range 2600 {
		s.put(t, fmt.Sprint("cm", i), strings.Repeat("x", 500))
	}
	found := snapshotsIn(t, dir)
	for deadline := time.Now().Add(10 * time.Second); len(found) < 2 && time.Now().Before(deadline); found = snapshotsIn(t, dir) {
		s.put(t, fmt.Sprint("more", time.Now().UnixNano()), strings.Repeat("x", 100_000))
	}
	if len(found) < 2 {
		t.Fatalf("snapshots %v, want 2", found)
	}
	return found[len(found)-1], found[len(found)-2]
}

func snapshotsIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".tmp") {
			names = append(names, filepath.Join(dir, "snapshots", e.Name()))
		}
	}
	return names
}

func TestSnapshotsBySizeRestoreAndArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	newest, _ := manySnapshots(t, dir)
	left := filepath.Join(dir, "snapshots", "9-9-9.tmp")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if !s.has("cm0") || !s.has("cm2599") {
		t.Error("objects are missing after a restore")
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("an unfinished snapshot was not swept")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "raft.db"): 0o600, filepath.Join(dir, "identity"): 0o600, newest: 0o700, newest + "/state.bin": 0o600, newest + "/meta.json": 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %o, want %o", path, got, want)
		}
	}
}

func TestADamagedSnapshotNeverLosesSilently(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	newest, older := manySnapshots(t, dir)
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	edit(t, filepath.Join(newest, "state.bin"), flip)
	// The older snapshot may still connect to the log; then everything is there. Else it is refused. Never a part.
	if s, err := start(dir, 0); err == nil {
		s.awaitLeading(t)
		if !s.has("cm0") || !s.has("cm2599") {
			t.Error("started with a part of the state")
		}
		s.stop()
	} else if !strings.Contains(err.Error(), "move it away") {
		t.Errorf("error %q says no remedy", err)
	}
	edit(t, filepath.Join(older, "state.bin"), flip)
	mustRefuse(t, dir, "snapshots", "move it away")
}
