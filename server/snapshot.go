package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/server/backup"
)

// sendBackup streams a backup of all that was acknowledged before it was asked for. What the client got is a backup only if
// its digest says so: an error in the midst of it can be told in no other way than by ending the answer.
func (s *server) sendBackup(w http.ResponseWriter, r *http.Request) {
	bounded, cancel := context.WithTimeoutCause(r.Context(), adminTimeout, errors.New("the store is not complete, or no majority answers"))
	defer cancel()
	if err := s.readIndex(bounded); err != nil {
		answerAdmin(w, nil, fmt.Errorf("this server cannot tell whether its state is current: %w", err))
		return
	}
	view := s.store.View()
	header, err := backup.Describe(view, s.cfg.Version, time.Now())
	if err != nil {
		answerAdmin(w, nil, err)
		return
	}
	cert, key, err := s.authority.Export()
	if err != nil {
		answerAdmin(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := backup.Write(w, header, backup.Authority{Cert: cert, Key: key}, view); err != nil {
		s.log.Warn("backup not saved", "err", err)
		panic(http.ErrAbortHandler)
	}
	s.log.Info("backup read by the admin socket", "cluster", header.Cluster, "version", header.Version)
}

// SaveSnapshot saves a backup of the whole cluster to a file, readable by its owner only. The file is the old one or a whole
// new one, whatever happens.
func (a Admin) SaveSnapshot(ctx context.Context, path string) (*backup.Backup, error) {
	stream, err := a.open(ctx, http.MethodGet, "/snapshot", nil)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-") // with mode 0600
	if err != nil {
		return nil, fmt.Errorf("save the snapshot: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.ReadFrom(stream); err != nil {
		return nil, fmt.Errorf("save the snapshot: %w", err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("save the snapshot: %w", err)
	}
	saved, err := readBackup(f)
	if err != nil {
		return nil, fmt.Errorf("save the snapshot: read it back: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, fmt.Errorf("save the snapshot: %w", err)
	}
	return saved, durable.SyncDir(filepath.Dir(path))
}

// OpenSnapshot reads a file that SaveSnapshot wrote, and checks every byte of it.
func OpenSnapshot(path string) (*backup.Backup, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot: %w", err)
	}
	defer f.Close()
	b, err := readBackup(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func readBackup(f *os.File) (*backup.Backup, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, backup.ErrForeign
	}
	return backup.Read(f, info.Size())
}
