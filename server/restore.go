package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/backup"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	// unfinished is where a data directory is made, in the one that it is to become.
	unfinished = "restoring"
	// versionGap is how far at least a restored store counts on from its snapshot: further than the cluster may have come since.
	versionGap = 1_000_000_000
)

// Restore makes in dataDir, which must be empty or missing, a single server's data of the backup in file. Started on it, the
// server goes on as one that was rebuilt from its repository, with the authority, the tokens and the history it had.
func Restore(ctx context.Context, file, dataDir string, log *slog.Logger) (*backup.Backup, error) {
	saved, err := OpenSnapshot(file)
	if err != nil {
		return nil, err
	}
	if err := checkEmpty(dataDir); err != nil {
		return nil, err
	}
	release, err := lockDir(dataDir)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := restoreInto(ctx, saved, dataDir, log); err != nil {
		return nil, errors.Join(err, os.RemoveAll(filepath.Join(dataDir, unfinished)))
	}
	return saved, nil
}

// checkEmpty refuses a data directory that holds anything: a restore removes nothing.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	var found []string
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "lost+found" {
			found = append(found, e.Name())
		}
	}
	if len(found) == 0 {
		return nil
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lock" }) {
		release, err := lockDir(dir)
		if err != nil {
			return err
		}
		release()
	}
	return fmt.Errorf("the data directory %s is not empty (%s): move it away, or give another --data-dir", dir, strings.Join(found, ", "))
}

// restoreInto makes everything beside its place, so that a server never starts on a part of it.
func restoreInto(ctx context.Context, saved *backup.Backup, dataDir string, log *slog.Logger) error {
	dir := filepath.Join(dataDir, unfinished)
	if _, err := pki.Install(filepath.Join(dir, "pki"), saved.Authority.Cert, saved.Authority.Key, time.Now); err != nil {
		return err
	}
	if err := restoreStore(ctx, saved.Snapshot, filepath.Join(dir, "raft"), log); err != nil {
		return err
	}
	for _, name := range []string{"pki", "raft"} { // The store last: with it this is a server's directory.
		if err := durable.SyncDir(filepath.Join(dir, name)); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dataDir, name)); err != nil {
			return fmt.Errorf("put %s in its place: %w", name, err)
		}
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove what is left of the restore: %w", err)
	}
	return durable.SyncDir(dataDir)
}

// restoreStore makes in dir a cluster of one server with the state of snap, as it is to begin.
func restoreStore(ctx context.Context, snap *state.Snapshot, dir string, log *slog.Logger) error {
	store := state.New(tables.Schema(), time.Now)
	raft, err := raftlog.Open(raftlog.Config{Dir: dir, ID: elder, Bootstrap: true, Store: store, Log: log})
	if err != nil {
		return err
	}
	err = leadOnce(ctx, raft, func(term context.Context) error { return begin(term, raft, store, snap) })
	if err := errors.Join(err, raft.Close()); err != nil {
		return fmt.Errorf("restore the store: %w", err)
	}
	return nil
}

// begin has raft hold snap, and makes it the beginning of another store.
func begin(ctx context.Context, raft *raftlog.Log, store *state.Store, snap *state.Snapshot) error {
	now := time.Now()
	if err := raft.Restore(ctx, snap.Advanced(firstVersion(snap.Version, now))); err != nil {
		return err
	}
	return writeOnce(ctx, raft, store, func(tx *state.Txn) error { return forget(tx, now) })
}

// firstVersion is where a restored store begins to count. No version that the store it was saved from, or another that was
// restored from it, has told to anybody may be told again for something else: who watches from such a one must hear that it
// is gone. No store makes a version each microsecond for long, so the time is ahead of all; a clock that is behind is not.
func firstVersion(saved state.Version, now time.Time) state.Version {
	return max(saved+versionGap, state.Version(max(0, now.UnixMicro())))
}

// forget makes the state of a snapshot that of a server that is to be rebuilt: the nodes know better what runs, and the
// repository what shall. What was declared stays, as what a plan compares with. What controllers had made of it goes: they
// make it anew, and take in what nodes bring.
func forget(tx *state.Txn, now time.Time) error {
	for _, kind := range object.Stored() {
		for _, obj := range slices.Collect(state.ListKind(tx, kind, "")) {
			if derived(obj) {
				tx.Delete(obj)
			}
		}
	}
	for _, node := range slices.Collect(state.List[*corev1.Node](tx, "")) {
		awaited := node.DeepCopy()
		delete(awaited.Annotations, object.MachineAnnotation) // its machine may have been replaced since
		awaited.Status.Conditions = []corev1.NodeCondition{{
			Type: object.Restored, Status: corev1.ConditionTrue, Reason: "SnapshotRestored", LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
			Message: "known from a snapshot; its agent has not come yet",
		}}
		tx.Update(awaited)
		tx.SetStatus(awaited)
	}
	return renew(tx, now)
}

// derived says whether an object follows from others, and from what nodes run.
func derived(obj object.Object) bool {
	switch obj.(type) {
	case *corev1.Pod, *discoveryv1.EndpointSlice, *object.Server:
		return true
	}
	return metav1.GetControllerOf(obj) != nil
}

// renew makes the Cluster that of another store, which has yet to read the repository and to hear from its nodes.
func renew(tx *state.Txn, now time.Time) error {
	old := plan.LiveCluster(tx)
	if old == nil {
		return errors.New("the snapshot holds no cluster")
	}
	cluster := old.DeepCopy()
	cluster.UID, cluster.CreationTimestamp, cluster.ResourceVersion = "", metav1.Time{}, "" // young again: nodes may bring their Pods
	cluster.Status.Store, cluster.Status.Revision = string(uuid.NewUUID()), ""
	cluster.Status.Conditions = []metav1.Condition{{
		Type: object.Recovering, Status: metav1.ConditionTrue, Reason: "SnapshotRestored", LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		Message: "restored from a snapshot; waiting for nodes to report what they run",
	}}
	tx.Delete(old)
	tx.Create(cluster)
	return nil
}
