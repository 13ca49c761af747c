// Package e2e runs the real binary on a host with a real engine, against a real repository, as its users do.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/testhost"
)

// patience bounds every wait for something that takes the engine's time; it is far above what a loaded machine needs.
const patience = 90 * time.Second

// binary builds a program once for all tests of this run.
func binary(t testing.TB, importPath string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if path, ok := binaries.paths[importPath]; ok {
		return path
	}
	path := testhost.GoBinary(t, importPath)
	kept := filepath.Join(binaries.dir, filepath.Base(importPath))
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(kept, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	binaries.paths[importPath] = kept
	return kept
}

var binaries = struct {
	sync.Mutex
	dir   string
	paths map[string]string
}{paths: map[string]string{}}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mainstay-e2e-")
	if err != nil {
		panic(err)
	}
	binaries.dir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// cluster is a host on which Mainstay follows a repository.
type cluster struct {
	host *testhost.Host
	repo string // a worktree
	data string
	bin  string
	args []string  // of `mainstay up`, besides the usual
	proc *exec.Cmd // of `mainstay up`; nil while it does not run
}

// newCluster makes a host with the image hello:1.0 and hello:2.0 and a repository with files; nothing runs yet.
func newCluster(t testing.TB, files map[string]string) *cluster {
	t.Helper()
	host := testhost.New(t)
	host.BinaryImage(t, binary(t, "github.com/mainstay-cluster/mainstay/examples/hello"), "hello:1.0", "hello:2.0")
	c := &cluster{host: host, repo: filepath.Join(host.Dir, "repo"), data: filepath.Join(host.Dir, "mainstay"), bin: binary(t, "github.com/mainstay-cluster/mainstay/cmd/mainstay")}
	c.begin(t, files)
	t.Cleanup(func() { c.stop(t) })
	return c
}

// begin makes the repository with files as its first commit.
func (c *cluster) begin(t testing.TB, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(c.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	c.git(t, "init", "-q", "-b", "main")
	c.git(t, "config", "user.name", "Ada")
	c.git(t, "config", "user.email", "ada@example.com")
	c.commit(t, "first", files)
}

func (c *cluster) git(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", c.repo}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files – "" removes one – and commits them; it returns the commit.
func (c *cluster) commit(t testing.TB, message string, files map[string]string) string {
	t.Helper()
	c.write(t, files)
	c.git(t, "commit", "-q", "--allow-empty", "-m", message)
	return c.head(t)
}

// write puts files into the worktree and the index.
func (c *cluster) write(t testing.TB, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(c.repo, name)
		if content == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.git(t, "add", "-A")
}

func (c *cluster) head(t testing.TB) string { return c.git(t, "rev-parse", "HEAD") }

// up starts `mainstay up` and waits until it answers.
func (c *cluster) up(t testing.TB) {
	t.Helper()
	c.start(t)
	c.eventually(t, "mainstay up answers", func() error {
		_, err := c.try("version")
		return err
	})
}

// start starts `mainstay up`.
func (c *cluster) start(t testing.TB) {
	t.Helper()
	c.launch(t, append([]string{"up", "--repo", c.repo, "--data-dir", c.data, "--docker-host", c.host.DockerHost(), "--node-name", "n1"}, c.args...)...)
}

// launch starts the program in the background.
func (c *cluster) launch(t testing.TB, args ...string) {
	t.Helper()
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// The context must outlive the test's own, which ends before its cleanups run.
	c.proc = c.host.Command(context.WithoutCancel(t.Context()), c.bin, args...)
	c.proc.Stdout, c.proc.Stderr = log, log
	if err := c.proc.Start(); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) logPath() string { return filepath.Join(c.host.Dir, "mainstay.log") }

// kill ends Mainstay as a crash does.
func (c *cluster) kill(t testing.TB) {
	t.Helper()
	c.end(t, syscall.SIGKILL)
}

// stop ends Mainstay as a service manager does.
func (c *cluster) stop(t testing.TB) {
	t.Helper()
	c.end(t, syscall.SIGTERM)
}

func (c *cluster) end(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if c.proc == nil {
		return
	}
	if err := c.proc.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = c.proc.Wait()
	c.proc = nil
	if t.Failed() {
		log, _ := os.ReadFile(c.logPath())
		t.Logf("%s on %s said:\n%s", filepath.Base(c.bin), c.host.Name, tail(log, 16<<10))
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// try runs a reading command.
func (c *cluster) try(args ...string) (string, error) { return c.run(c.bin, args...) }

// kubectl runs the real kubectl.
func (c *cluster) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.run(binary(t, "k8s.io/kubernetes/cmd/kubectl"), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *cluster) run(program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := c.host.Command(noContext, program, args...)
	cmd.Env = append(os.Environ(), "MAINSTAY_KUBECONFIG="+filepath.Join(c.data, "kubeconfig"), "KUBECONFIG="+filepath.Join(c.data, "kubeconfig"), "HOME="+c.host.Dir)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(program), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// mainstay runs a reading command that must succeed.
func (c *cluster) mainstay(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// converge waits until the commit runs.
func (c *cluster) converge(t testing.TB, commit string) {
	t.Helper()
	c.mainstay(t, "wait", "--commit", commit, "--timeout", patience.String())
}

// container is what tests compare before and after a fault.
type container struct {
	ID, Started string
	Pid         int
}

// containers lists Mainstay's running containers by name.
func (c *cluster) containers(t testing.TB) map[string]container {
	t.Helper()
	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	filter, _ := json.Marshal(map[string][]string{"label": {"mainstay.dev/cluster"}, "status": {"running"}})
	c.host.API(t, "GET", "/containers/json?filters="+urlQuery(filter), nil, &list)
	found := map[string]container{}
	for _, item := range list {
		var inspect struct {
			State struct {
				StartedAt string
				Pid       int
			}
		}
		if !c.host.Ask(t, "/containers/"+item.ID+"/json", &inspect) {
			continue // it went meanwhile
		}
		found[strings.TrimPrefix(item.Names[0], "/")] = container{item.ID, inspect.State.StartedAt, inspect.State.Pid}
	}
	return found
}

// pod is what tests read of a Pod.
type pod struct {
	Name, UID, Phase, IP, Image string
	Ready, Deleted              bool
	Restarts                    int
}

func (c *cluster) pods(t testing.TB, args ...string) []pod {
	t.Helper()
	pods, err := c.tryPods(args...)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

func (c *cluster) tryPods(args ...string) ([]pod, error) {
	out, err := c.try(append([]string{"get", "pods", "-o", "json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name, UID, DeletionTimestamp string }
			Spec     struct{ Containers []struct{ Image string } }
			Status   struct {
				Phase, PodIP      string
				Conditions        []struct{ Type, Status string }
				ContainerStatuses []struct{ RestartCount int }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("get pods: %w\n%s", err, out)
	}
	var pods []pod
	for _, item := range list.Items {
		p := pod{Name: item.Metadata.Name, UID: item.Metadata.UID, Phase: item.Status.Phase, IP: item.Status.PodIP, Image: item.Spec.Containers[0].Image, Deleted: item.Metadata.DeletionTimestamp != ""}
		for _, cond := range item.Status.Conditions {
			p.Ready = p.Ready || cond.Type == "Ready" && cond.Status == "True"
		}
		for _, s := range item.Status.ContainerStatuses {
			p.Restarts += s.RestartCount
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// eventually tries until check passes. It asks the outside world, which cannot tell us when to look again.
func (c *cluster) eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		if c.proc == nil {
			t.Fatalf("%s: Mainstay does not run: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
