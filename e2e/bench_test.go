package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// fromOutside lets the benchmark itself, which is not on the host, watch the API.
var fromOutside = []string{"--listen", "0.0.0.0:7443"}

// prepare makes a commit of files on top of the branch without moving it: what git itself costs is not Mainstay's.
func (c *cluster) prepare(b *testing.B, message string, files map[string]string) string {
	b.Helper()
	c.write(b, files)
	return c.git(b, "commit-tree", "-p", "HEAD", "-m", message, c.git(b, "write-tree"))
}

// land moves the branch to a commit in git's own way, by renaming a lock, and returns when that was.
func (c *cluster) land(b *testing.B, commit string) time.Time {
	b.Helper()
	ref := filepath.Join(c.repo, ".git/refs/heads/main")
	check(b, os.WriteFile(ref+".lock", []byte(commit+"\n"), 0o644))
	now := time.Now()
	check(b, os.Rename(ref+".lock", ref))
	return now
}

// registrations counts how often the agent has told the server what runs here.
func (c *cluster) registrations(b *testing.B) int {
	b.Helper()
	log, err := os.ReadFile(c.logPath())
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	return strings.Count(string(log), `"msg":"node registered"`)
}

// registered waits for a registration after the first n.
func (c *cluster) registered(b *testing.B, n int) {
	b.Helper()
	for deadline := time.Now().Add(patience); c.registrations(b) <= n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("the agent did not register within %s", patience)
		}
	}
}

// api is the API as the host's network sees it, over one connection.
type api struct {
	client *http.Client
	base   string
}

func (c *cluster) api(b *testing.B) *api {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.data, "kubeconfig"))
	check(b, err)
	config.Host = "https://" + net.JoinHostPort(c.host.IP.String(), "7443")
	client, err := rest.HTTPClientFor(config)
	check(b, err)
	b.Cleanup(client.CloseIdleConnections)
	return &api{client, config.Host}
}

// list reads all of a resource, given by its path.
func list[T any](b *testing.B, a *api, path string) []T {
	b.Helper()
	response, err := a.client.Get(a.base + path)
	check(b, err)
	defer response.Body.Close()
	var all struct{ Items []T }
	check(b, json.NewDecoder(response.Body).Decode(&all))
	if response.StatusCode != http.StatusOK {
		b.Fatalf("GET %s: %s", path, response.Status)
	}
	return all.Items
}

// watch returns once the server sends changes of a resource; the function it returns waits until one is as wanted, and says when
// that was seen.
func watch[T any](b *testing.B, a *api, path string, wanted func(T) bool) func() time.Time {
	b.Helper()
	ctx, cancel := context.WithTimeout(noContext, 2*patience)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path+"?watch=1", nil)
	check(b, err)
	response, err := a.client.Do(request)
	check(b, err)
	type sight struct {
		at  time.Time
		err error
	}
	seen := make(chan sight, 1)
	go func() {
		defer response.Body.Close()
		for events := json.NewDecoder(response.Body); ; {
			var event struct{ Object T }
			if err := events.Decode(&event); err != nil {
				seen <- sight{err: err}
				return
			}
			if wanted(event.Object) {
				seen <- sight{at: time.Now()}
				return
			}
		}
	}()
	return func() time.Time {
		b.Helper()
		defer cancel()
		s := <-seen
		if s.err != nil {
			b.Fatalf("watch %s: %v", path, s.err)
		}
		return s.at
	}
}

// revision is what benchmarks read of one.
type revision struct {
	Spec   struct{ Commit string }
	Status struct{ Phase string }
}

const revisions = "/apis/mainstay.dev/v1alpha1/revisions"

// activation watches for a commit to be Active.
func activation(b *testing.B, a *api, commit string) func() time.Time {
	return watch(b, a, revisions, func(r revision) bool {
		if r.Spec.Commit == commit && (r.Status.Phase == "Rejected" || r.Status.Phase == "Failed") {
			b.Errorf("commit %s is %s", commit, r.Status.Phase)
			return true
		}
		return r.Spec.Commit == commit && (r.Status.Phase == "Active" || r.Status.Phase == "Converged")
	})
}

// memory is one line of /proc/PID/status of `mainstay up`, in MiB: VmRSS now, VmHWM the most it ever had.
func (c *cluster) memory(b *testing.B, line string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.proc.Process.Pid))
	check(b, err)
	_, rest, found := strings.Cut(string(status), line+":")
	if !found {
		b.Fatalf("no %s in %s", line, status)
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	check(b, err)
	return float64(kib) / 1024
}

// processor is the processor time that `mainstay up` has used; nsenter has become it.
func (c *cluster) processor(b *testing.B) time.Duration {
	b.Helper()
	const userHz, utime, stime = 100, 11, 12 // fields after the command's name
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.proc.Process.Pid))
	check(b, err)
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+2:]))
	user, err := strconv.Atoi(fields[utime])
	check(b, err)
	system, err := strconv.Atoi(fields[stime])
	check(b, err)
	return time.Duration(user+system) * time.Second / userHz
}

// unread drops the program from the page cache, so that it is mapped as after a boot. What has just been built lies there in pages
// of 2 MiB, of which the kernel counts all as resident when any of it is touched.
func (c *cluster) unread(b *testing.B) {
	b.Helper()
	quiet()
	program, err := os.Open(c.bin)
	check(b, err)
	defer program.Close()
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, program.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
		b.Fatal(errno)
	}
}

// quiet lets the disk finish what the one before began, so that nobody pays for another's writes.
func quiet() { syscall.Sync() }

func median(samples []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[len(sorted)/2]
}

func mean(samples []time.Duration) time.Duration {
	var sum time.Duration
	for _, s := range samples {
		sum += s
	}
	return sum / time.Duration(len(samples))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
