// Package durable writes files that must outlive a crash of the machine.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// ReplaceFile makes path hold content, readable by the owner only: after a crash it is the old file or the new one, whole, and
// after it returned the new one. The directory must exist. Two calls for one path must not run at the same time.
func ReplaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
