package testhost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	engineStart = 60 * time.Second // an engine is up in 1 to 3 s; a loaded machine takes its time
	engineStop  = 30 * time.Second
	pollEvery   = 10 * time.Millisecond // engines and processes of others do not tell when they are ready or gone
)

// engine is one Docker Engine; cmd is nil while it does not run.
type engine struct {
	name, dir, bip string
	cmd            *exec.Cmd
	exited         chan struct{} // closed when cmd is gone
}

// StartEngine starts the host's Docker Engine with live-restore and waits until it answers. Nothing happens if it runs. Flags of
// dockerd that are given override those it gets otherwise.
func (h *Host) StartEngine(t testing.TB, flags ...string) {
	t.Helper()
	e := h.engine
	if e.cmd != nil {
		return
	}
	config := filepath.Join(h.Dir, "daemon.json") // the machine's own /etc/docker/daemon.json is none of our business
	must(t, os.WriteFile(config, []byte("{}"), 0o644))
	log, err := os.OpenFile(filepath.Join(h.Dir, "engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	// Not t.Context(): that ends before the cleanups, in which tests remove what they made.
	args := []string{"dockerd", "--config-file", config, "--data-root", filepath.Join(h.Dir, "data"),
		"--exec-root", filepath.Join(h.Dir, "exec"), "-H", h.DockerHost(), "--pidfile", filepath.Join(h.Dir, "pid"),
		"--bip", e.bip, "--live-restore", "--containerd-namespace", e.name, "--containerd-plugins-namespace", e.name + "-plugins"}
	cmd := h.Command(context.Background(), args[0], append(args[1:], flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	h.removePidFiles(t)
	must(t, cmd.Start())
	e.cmd, e.exited = cmd, make(chan struct{})
	go func() {
		cmd.Wait()
		close(e.exited)
	}()
	h.awaitEngine(t)
}

// removePidFiles removes what a killed engine left: its containerd dies with it, and an engine that finds the pid in use, be it by
// another process or by what is left of the old one, waits for a containerd that never comes.
func (h *Host) removePidFiles(t testing.TB) {
	t.Helper()
	for _, name := range []string{"pid", "exec/containerd/containerd.pid"} {
		if err := os.Remove(filepath.Join(h.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func (h *Host) awaitEngine(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), engineStart)
	defer cancel()
	for {
		if _, err := h.request(ctx, http.MethodGet, "/_ping", nil); err == nil {
			return
		}
		select {
		case <-time.After(pollEvery):
		case <-h.engine.exited:
			t.Fatalf("the Docker Engine of %s ended:\n%s", h.Name, h.engineLog())
		case <-ctx.Done():
			t.Fatalf("the Docker Engine of %s did not answer within %s:\n%s", h.Name, engineStart, h.engineLog())
		}
	}
}

func (h *Host) engineLog() []byte {
	const last = 4 << 10
	log, _ := os.ReadFile(filepath.Join(h.Dir, "engine.log"))
	return log[max(0, len(log)-last):]
}

// StopEngine stops the engine as a service manager does. Containers run on.
func (h *Host) StopEngine(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGTERM)
	h.awaitExit(t)
}

// KillEngine kills the engine and its containerd as a crash does. Containers run on.
func (h *Host) KillEngine(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGKILL)
	h.awaitExit(t)
	pid, _ := os.ReadFile(filepath.Join(h.Dir, "exec/containerd/containerd.pid"))
	number, _ := strconv.Atoi(string(pid))
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", number))
	if bytes.Contains(cmdline, []byte(h.Dir+"/")) {
		must(t, syscall.Kill(number, syscall.SIGKILL))
	}
}

// WipeEngine removes all that a stopped engine kept: images, containers, volumes. It starts as that of a new machine.
func (h *Host) WipeEngine(t testing.TB) {
	t.Helper()
	if h.engine.cmd != nil {
		t.Fatalf("the Docker Engine of %s runs: stop it first", h.Name)
	}
	for _, name := range []string{"data", "exec"} {
		dir := filepath.Join(h.Dir, name)
		must(t, unmount(dir))
		must(t, os.RemoveAll(dir))
	}
}

// FreezeEngine stops the engine's process: it accepts connections and never answers.
func (h *Host) FreezeEngine(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGSTOP)
	for deadline := time.Now().Add(engineStop); time.Now().Before(deadline); time.Sleep(pollEvery) {
		if _, state := parentOf(h.engine.cmd.Process.Pid); state == "T" {
			return // the signal has come through to all threads
		}
	}
	t.Fatalf("the Docker Engine of %s does not freeze", h.Name)
}

// ThawEngine lets a frozen engine go on.
func (h *Host) ThawEngine(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGCONT)
}

func (h *Host) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if h.engine.cmd == nil {
		t.Fatalf("the Docker Engine of %s does not run", h.Name)
	}
	must(t, h.engine.cmd.Process.Signal(sig)) // nsenter has become dockerd
}

func (h *Host) awaitExit(t testing.TB) {
	t.Helper()
	select {
	case <-h.engine.exited:
		h.engine.cmd = nil
	case <-time.After(engineStop):
		t.Fatalf("the Docker Engine of %s did not end within %s:\n%s", h.Name, engineStop, h.engineLog())
	}
}

// API calls the engine as somebody else would: behind the back of what is tested. body, if not nil, is sent as JSON; the
// answer is stored in out unless that is nil. Anything but success fails the test.
func (h *Host) API(t testing.TB, method, path string, body, out any) {
	t.Helper()
	var payload io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		must(t, err)
		payload = bytes.NewReader(encoded)
	}
	answer, err := h.request(context.WithoutCancel(t.Context()), method, path, payload)
	must(t, err)
	if out != nil {
		must(t, json.Unmarshal(answer, out))
	}
}

// request returns the whole answer; anything but success is an error.
// Ask decodes the engine's answer to a GET into out, and says whether there is what was asked for.
func (h *Host) Ask(t testing.TB, path string, out any) bool {
	t.Helper()
	answer, err := h.request(context.WithoutCancel(t.Context()), http.MethodGet, path, nil)
	if errors.Is(err, errNotThere) {
		return false
	}
	must(t, err)
	must(t, json.Unmarshal(answer, out))
	return true
}

// errNotThere is the engine's 404.
var errNotThere = errors.New("not there")

func (h *Host) request(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Socket())
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusNotFound {
		return answer, fmt.Errorf("%s %s: %w: %s", method, path, errNotThere, bytes.TrimSpace(answer))
	}
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, err
}
