package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mainstay-cluster/mainstay/testhost"
)

const (
	// diskSize is far more than a log grows to in a run.
	diskSize = 1 << 30
	// mountpoint is where a server's disk is, on its host.
	mountpoint = "disk"
	// stopping is how long a server may take to end after SIGTERM, on a loaded machine.
	stopping = 30 * time.Second
)

// server is a process on a host, with a disk of its own. Its methods may be called by any goroutine, but for one server by one
// at a time.
type server struct {
	name    string
	host    *testhost.Host
	bin     string
	args    []string
	address string
	data    string
	log     string // path
	orders  string // path: what it is to do to itself, see Step

	mu     sync.Mutex
	proc   *exec.Cmd     // nil while it does not run; guarded by mu
	ended  chan struct{} // closed when proc has; guarded by mu
	asked  bool          // to end; guarded by mu
	deaths []string      // ends that nobody asked for; guarded by mu
}

// start starts the process if it does not run.
func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return nil
	}
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start server %s: %w", s.name, err)
	}
	defer out.Close()
	proc := s.host.Command(context.Background(), s.bin, s.args...)
	proc.Stdout, proc.Stderr = out, out
	proc.Env = append(os.Environ(), orderVariable+"="+s.orders)
	if err := proc.Start(); err != nil {
		return fmt.Errorf("start server %s: %w", s.name, err)
	}
	ended := make(chan struct{})
	s.proc, s.ended, s.asked = proc, ended, false
	go s.await(proc, ended)
	return nil
}

// await notes how the process ended.
func (s *server) await(proc *exec.Cmd, ended chan struct{}) {
	err := proc.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.deaths = append(s.deaths, fmt.Sprintf("server %s ended by itself (%v); its last words:\n%s", s.name, err, s.lastWords()))
	}
	s.proc = nil
	close(ended)
}

// remark puts what is done to the server into its log. It is for readers alone, so it may fail.
func (s *server) remark(format string, args ...any) {
	if f, err := os.OpenFile(s.log, os.O_APPEND|os.O_WRONLY, 0); err == nil {
		defer f.Close()
		fmt.Fprintf(f, "chaos: "+format+"\n", args...)
	}
}

// lastWords is the end of the log.
func (s *server) lastWords() string {
	const last = 2 << 10
	said, _ := os.ReadFile(s.log)
	return string(said[max(0, len(said)-last):])
}

// end sends the process a signal that ends it, and waits until it has.
func (s *server) end(signal syscall.Signal) error {
	s.mu.Lock()
	proc := s.proc
	s.asked = true
	s.mu.Unlock()
	if proc == nil {
		return nil
	}
	if err := proc.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end server %s: %w", s.name, err)
	}
	return s.awaitEnd(signal.String())
}

// awaitEnd waits until the process has ended.
func (s *server) awaitEnd(why string) error {
	s.mu.Lock()
	proc, ended := s.proc, s.ended
	s.mu.Unlock()
	if proc == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-time.After(stopping):
		return fmt.Errorf("server %s has not ended %s after %s", s.name, stopping, why)
	}
}

// send sends the process a signal that does not end it.
func (s *server) send(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	if err := s.proc.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to server %s: %w", signal, s.name, err)
	}
	return nil
}

// forgive takes the ends that nobody asked for as part of what was done to the server, and returns how many there were.
func (s *server) forgive() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.deaths)
	s.deaths = nil
	return n
}

// command runs the program on the server's host.
func (s *server) command(ctx context.Context, args ...string) (string, error) {
	out, err := s.host.Command(ctx, s.bin, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mainstay %s on %s: %w: %s", strings.Join(args, " "), s.name, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// run runs a program of the machine on the server's host.
func (s *server) run(name string, args ...string) error {
	if out, err := s.host.Command(context.Background(), name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s on %s: %w: %s", name, strings.Join(args, " "), s.name, err, out)
	}
	return nil
}

// mount gives the server its disk.
func (s *server) mount() error {
	at := filepath.Join(s.host.Dir, mountpoint)
	if err := os.Mkdir(at, 0o755); err != nil {
		return fmt.Errorf("make the disk of %s: %w", s.name, err)
	}
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		return fmt.Errorf("make the disk of %s: %w", s.name, err)
	}
	s.data = filepath.Join(at, "data")
	return nil
}

// resize changes the size of the disk. It cannot become smaller than what is on it.
func (s *server) resize(bytes uint64) error {
	at := filepath.Join(s.host.Dir, mountpoint)
	if err := syscall.Mount("tmpfs", at, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", bytes)); err != nil {
		return fmt.Errorf("change the size of the disk of %s to %d: %w", s.name, bytes, err)
	}
	return nil
}

// used is how much is on the disk.
func (s *server) used() (uint64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(filepath.Join(s.host.Dir, mountpoint), &stat); err != nil {
		return 0, fmt.Errorf("look at the disk of %s: %w", s.name, err)
	}
	return (stat.Blocks - stat.Bfree) * uint64(stat.Bsize), nil
}
