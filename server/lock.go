package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockDir makes dir, readable by the owner only, and keeps any other Mainstay from using it until release is called.
func lockDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := take(f); err != nil {
		holder, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data directory %s is in use by process %s: stop that first, or give another --data-dir", dir, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return func() { f.Close() }, nil
}

// lastBreath is how long a process that was killed may go on holding what it held: a program that it was about to start has
// its files until it runs.
const lastBreath = 2 * time.Second

// take locks f. A lock whose holder is dead is waited for.
func take(f *os.File) error {
	for deadline := time.Now().Add(lastBreath); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || holderLives(f.Name()) || time.Now().After(deadline) {
			return err
		}
	}
}

// holderLives says whether the process runs whose number the lock has; a number that cannot be read is one that is being written.
func holderLives(path string) bool {
	holder, err := os.ReadFile(path)
	if err != nil {
		return true
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(holder)))
	return err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// checkOwner refuses a directory that somebody else may have changed: what it holds is the cluster.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("the data directory %s belongs to user %d and Mainstay runs as %d: run it as that user, or chown the directory", dir, stat.Uid, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("the data directory %s has mode %04o, so others may write there: see that nobody has, then chmod 700 %s", dir, mode, dir)
	}
	return nil
}

// lockCluster keeps any other agent of this host from running the same cluster's containers, whatever its data directory is:
// each would take the other's for its own. The lock is a name of the kernel's, so a crash leaves nothing behind.
func lockCluster(id string) (release func(), err error) {
	l, err := net.Listen("unix", "@mainstay-agent-"+id)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another Mainstay runs the containers of cluster %s on this host: stop that first", id)
	}
	if err != nil {
		return nil, fmt.Errorf("lock cluster %s: %w", id, err)
	}
	return func() { l.Close() }, nil
}
