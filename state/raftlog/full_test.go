package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mainstay-cluster/mainstay/state"
)

// small is a file system that a test may fill.
func small(t *testing.T) string {
	t.Helper()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=48m"); err != nil {
		t.Fatalf("needs a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	return mount
}

// Where nobody else could have written, a full disk keeps nobody from reading what is, and space is all it takes to go on (P10).
func TestASingleServerWhoseDiskIsFullReadsOn(t *testing.T) {
	mount := small(t)
	m := newMember(t, Config{Dir: filepath.Join(mount, "raft"), ID: "s1", Bootstrap: true})
	m.awaitLeading(t)
	acked := m.write(t, "before", 5)
	if trouble := m.Trouble(); trouble != "" {
		t.Fatalf("in trouble from the beginning: %s", trouble)
	}
	fill(t, filepath.Join(mount, "ballast"))
	endReads := m.readAllTheWhile(t)
	for i, err := 0, error(nil); err == nil; i++ {
		name := fmt.Sprint("full", i)
		if err = m.create(name, 100_000); err == nil {
			acked = append(acked, name)
		}
	}
	index, err := m.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.WaitIndex(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	endReads()
	mustHave(t, m.store, acked)
	if trouble := m.Trouble(); !strings.Contains(trouble, mount) || !strings.Contains(trouble, "free at least 8 MiB") {
		t.Errorf("trouble = %q, want the disk, and what to do", trouble)
	}
	if err := os.Remove(filepath.Join(mount, "ballast")); err != nil {
		t.Fatal(err)
	}
	m.awaitLeading(t)
	acked = append(acked, m.write(t, "after", 5)...)
	mustHave(t, m.store, acked)
	if trouble := m.Trouble(); trouble != "" {
		t.Errorf("still in trouble: %s", trouble)
	}
}

// readAllTheWhile reads again and again until the function it returns is called: no read may fail.
func (m *member) readAllTheWhile(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			_, err = m.ReadIndex(context.WithoutCancel(ctx))
		}
		failed <- err
	}()
	return func() {
		cancel()
		if err := <-failed; err != nil {
			t.Errorf("a read failed: %v", err)
		}
	}
}

// The leader's disk is full: others go on, it reads on, and it follows again once there is space, by nobody's doing (P10).
func TestALeaderWhoseDiskIsFullMakesRoomForAnother(t *testing.T) {
	network, mount := newWire(t), small(t)
	full := newMember(t, Config{Dir: filepath.Join(mount, "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient})
	full.awaitLeading(t)
	members := []*member{full}
	for _, id := range []string{"s2", "s3"} {
		m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: id, Streams: network.join(t, id), Patience: patient})
		members = append(members, m)
		if err := full.AddVoter(t.Context(), id, m.address()); err != nil {
			t.Fatal(err)
		}
	}
	acked := full.write(t, "before", 5)
	fill(t, filepath.Join(mount, "ballast"))
	var refused error
	for i := 0; refused == nil && i < 1000; i++ {
		name := fmt.Sprint("full", i)
		if refused = full.create(name, 100_000); refused == nil {
			acked = append(acked, name)
		}
	}
	if !errors.Is(refused, state.ErrUnknown) && !errors.Is(refused, state.ErrNotLeader) {
		t.Fatalf("a write to a full disk ended with %v", refused)
	}
	next := leaderOf(t, members[1:]...)
	acked = append(acked, next.write(t, "meanwhile", 50)...)
	mustHave(t, full.store, acked[:5]) // reads go on
	mustAgree(t, next, acked, members[2])
	if full.Err() != nil {
		t.Fatalf("a full disk ended the server: %v", full.Err())
	}
	if err := os.Remove(filepath.Join(mount, "ballast")); err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, members...)
	mustAgree(t, leader, acked, members...)
}
