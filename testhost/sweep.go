package testhost

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unclaimedAge is how old a site without an owner must be: between making its directory and claiming it lie microseconds.
const unclaimedAge = time.Minute

// claim records this process as the site's owner. A pid alone would not do: pids come around.
func (s *site) claim() error {
	pid := os.Getpid()
	return os.WriteFile(filepath.Join(s.dir, "owner"), fmt.Appendf(nil, "%d %s", pid, startTime(pid)), 0o644)
}

// startTime identifies a process among all that ever had its pid; "" if there is none.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	const startField = 22 - 3 // counted after "pid (name)", as names may hold anything
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[startField]
}

// sweep removes what test processes left behind that are gone.
func sweep(t testing.TB) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"[0-9]*"))
	must(t, err)
	for _, dir := range dirs {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), prefix))
		if err != nil || !abandoned(dir) {
			continue
		}
		s := &site{number: number, name: filepath.Base(dir), dir: dir}
		if err := s.remove(); err != nil {
			t.Logf("remove %s, which a killed test left: %v", dir, err)
		}
	}
}

func abandoned(dir string) bool {
	owner, err := os.ReadFile(filepath.Join(dir, "owner"))
	pid, start, _ := strings.Cut(string(owner), " ")
	if err == nil && start != "" {
		number, _ := strconv.Atoi(pid)
		return startTime(number) != start
	}
	stat, err := os.Stat(dir)
	return err == nil && time.Since(stat.ModTime()) > unclaimedAge
}

// remove ends and removes everything of the site, from its name and directory alone. The directory goes last: until then
// nobody else takes the number, and another sweep can go on where this one ended.
func (s *site) remove() error {
	var errs []error
	errs = append(errs, s.killProcesses(), unmount(s.dir))
	s.removeCgroups()
	errs = append(errs, s.removeNamespaces(), os.RemoveAll(s.dir))
	return errors.Join(errs...)
}

// killProcesses kills engines, their containerd and its shims, which carry the site's paths or namespaces in their command
// lines, and everything below them, and waits until they are gone.
func (s *site) killProcesses() error {
	deadline := time.Now().Add(engineStop)
	for {
		pids := s.processes()
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not die", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(pollEvery)
	}
}

// processes lists the site's processes, children before their parents.
func (s *site) processes() []int {
	var found []int
	children := map[int][]int{}
	for _, entry := range readNames("/proc") {
		pid, err := strconv.Atoi(entry)
		if err != nil || pid == os.Getpid() {
			continue
		}
		parent, state := parentOf(pid)
		if state == "Z" {
			continue // dead already; whoever is its parent has not noticed yet
		}
		children[parent] = append(children[parent], pid)
		if s.owns(pid) {
			found = append(found, pid)
		}
	}
	for i := 0; i < len(found); i++ {
		for _, child := range children[found[i]] {
			if !slices.Contains(found, child) {
				found = append(found, child)
			}
		}
	}
	slices.Reverse(found)
	return found
}

func (s *site) owns(pid int) bool {
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	program, _, _ := bytes.Cut(cmdline, []byte{0})
	switch name := filepath.Base(string(program)); {
	case name != "dockerd" && name != "containerd" && name != "nsenter" && !strings.HasPrefix(name, "containerd-shim"):
		return false
	default:
		return bytes.Contains(cmdline, []byte(s.dir+"/")) || bytes.Contains(cmdline, []byte("-namespace\x00"+s.name+"-"))
	}
}

func parentOf(pid int) (parent int, state string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "Z"
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	parent, _ = strconv.Atoi(fields[1])
	return parent, fields[0]
}

// unmount takes off everything mounted at a directory and below, the innermost first.
func unmount(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		const pointField = 4
		fields := strings.Fields(line)
		if len(fields) > pointField && strings.HasPrefix(fields[pointField]+"/", dir+"/") {
			points = append(points, fields[pointField])
		}
	}
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}

// removeCgroups removes the control groups of containers whose shim was killed. They are empty and cost little: failing is no harm.
func (s *site) removeCgroups() {
	containers, _ := filepath.Glob(filepath.Join(s.dir, "*/data/containers/*"))
	for _, container := range containers {
		id := filepath.Base(container)
		for _, pattern := range []string{"docker/" + id, "*/docker/" + id, "system.slice/docker-" + id + ".scope"} {
			groups, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", pattern))
			for _, group := range groups {
				syscall.Rmdir(group)
			}
		}
	}
}

// removeNamespaces removes the site's network namespaces, and with them every link that has an end in one. The test process's
// own link is removed by hand: the kernel takes its time with a namespace, and the next test may want the same name.
func (s *site) removeNamespaces() error {
	var errs []error
	if _, err := net.InterfaceByName(s.name); err == nil {
		errs = append(errs, tryRun("ip", "link", "del", s.name))
	}
	for _, name := range readNames("/run/netns") {
		if strings.HasPrefix(name, s.name+"-") {
			errs = append(errs, tryRun("ip", "netns", "del", name))
		}
	}
	return errors.Join(errs...)
}

func readNames(dir string) []string {
	entries, _ := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}
