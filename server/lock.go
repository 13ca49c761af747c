package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockDir makes dir, readable by the owner only, and keeps any other Mainstay from using it until release is called.
func lockDir(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
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

// replaceFile writes a file, readable by the owner only, so that after a crash it is the old one or the new one.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
