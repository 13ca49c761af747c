package docker

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// startPause runs the sandboxes' program as a process of this host.
func startPause(t *testing.T) *exec.Cmd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pause")
	check(t, os.WriteFile(path, pauseProgram(runtime.GOARCH), 0o755))
	cmd := exec.Command(path)
	check(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func TestPauseEndsWhenTold(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := startPause(t)
		// What it ignores comes first: if that ended it, the exit code would not be 0.
		for _, harmless := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGCHLD} {
			awaitSleep(t, cmd.Process.Pid)
			check(t, cmd.Process.Signal(harmless))
		}
		check(t, cmd.Process.Signal(signal))
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %s: %v", signal, err)
		}
	}
}

// awaitSleep waits until the program waits for signals: before that they would kill it, as they do any other.
func awaitSleep(t *testing.T, pid int) {
	t.Helper()
	const sigtimedwait = "128 "
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		call, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/syscall")
		check(t, err)
		if strings.HasPrefix(string(call), sigtimedwait) {
			return
		}
	}
	t.Fatal("it does not wait for signals")
}

func TestPauseImageIsTheSameEverywhere(t *testing.T) {
	a, err := newPauseImage("amd64")
	check(t, err)
	b, err := newPauseImage("amd64")
	check(t, err)
	if a.name != b.name || !bytes.Equal(a.archive, b.archive) {
		t.Error("two builds differ")
	}
	if other, _ := newPauseImage("arm64"); other.name == a.name {
		t.Error("images of two programs have one name")
	}
	if _, err := newPauseImage("mips"); err == nil {
		t.Error("an image was made of no program")
	}
}

func TestPauseReapsOrphansAndStopsFast(t *testing.T) {
	f := newFixture(t)
	p := pod("orphans", "sleep", "600")
	share := true
	p.Spec.ShareProcessNamespace = &share
	c := f.run(t, p)
	// A shell that leaves a child behind: the child's new parent is the sandbox.
	if code, out, err := f.Exec(t.Context(), c.ID, []string{"sh", "-c", "(sleep 0.05 &) ; sleep 0.3; ps -o stat,comm | grep -c ^Z"}); err != nil || string(out) != "0\n" {
		t.Errorf("zombies: %q (exit code %d, %v)", out, code, err)
	}
	sandbox := f.look(t, f.Runtime, p).Sandbox
	before := time.Now()
	f.host.API(t, "POST", "/containers/"+sandbox.ID+"/stop?t=30", nil, nil)
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("the sandbox took %s to stop", took)
	}
	f.host.API(t, "DELETE", "/containers/"+c.ID+"?force=1", nil, nil)
	if again := f.look(t, f.Runtime, p).Sandbox; again.Running {
		t.Errorf("it is said to run: %+v", again)
	}
}

func TestCleanupRemovesThePauseImageUnlessSomebodyUsesIt(t *testing.T) {
	f := newFixture(t)
	present := func() bool {
		_, err := f.inspectImage(t.Context(), f.pause.name)
		return err == nil
	}
	check(t, f.loadPause(t.Context()))
	neighbour, err := f.startBare(t.Context(), "neighbour", &container.Config{Image: f.pause.name, Labels: map[string]string{labelCluster: "other"}}, &container.HostConfig{})
	check(t, err)
	check(t, f.Cleanup(t.Context()))
	if !present() {
		t.Error("the image of another cluster's sandbox is gone")
	}
	f.host.API(t, "DELETE", "/containers/"+neighbour+"?force=1", nil, nil)
	check(t, f.Cleanup(t.Context()))
	if present() {
		t.Error("the image is still there")
	}
}
