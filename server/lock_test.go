package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestADirectoryThatOthersMayChangeIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		mode  os.FileMode
		owner int
		want  string // in the error; "" for none
	}{
		"ours alone":            {mode: 0o700, owner: os.Geteuid()},
		"ours, readable to all": {mode: 0o755, owner: os.Geteuid()},
		"writable by all":       {mode: 0o777, owner: os.Geteuid(), want: "chmod 700"},
		"writable by a group":   {mode: 0o770, owner: os.Geteuid(), want: "chmod 700"},
		"another user's":        {mode: 0o700, owner: 4242, want: "belongs to user 4242"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, tc.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, tc.owner, -1); err != nil {
				t.Fatalf("needs root: %v", err)
			}
			release, err := lockDir(dir)
			switch {
			case err == nil && tc.want == "":
				release()
			case err == nil:
				release()
				t.Errorf("it was taken, want an error with %q", tc.want)
			case tc.want == "" || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir):
				t.Errorf("err = %v, want one with %q and the path", err, tc.want)
			}
		})
	}
}

// A process that was killed while it started a program leaves its lock with that for a moment. Whoever starts it again at once
// must not be told to stop it first.
func TestALockOfADeadProcessIsWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	release, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := lockDir(dir); err == nil {
		again()
		t.Error("a living process lost its lock")
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(strconv.Itoa(dead.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, release)
	again, err := lockDir(dir)
	if err != nil {
		t.Fatalf("%v, want the lock of the dead process", err)
	}
	again()
}
