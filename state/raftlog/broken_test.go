package raftlog

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// breakable restarts the third of the servers so that something can be made to happen at a point. Its log is trimmed soon.
func breakable(t *testing.T, members []*member, network *wire) (on func(point string, happens func() error)) {
	t.Helper()
	type event struct {
		point   string
		happens func() error
	}
	var wanted atomic.Pointer[event]
	members[2].end()
	members[2].cfg.SnapshotBytes = 20_000
	members[2].cfg.BreakAt(func(point string) error {
		if w := wanted.Load(); w != nil && w.point == point {
			return w.happens()
		}
		return nil
	})
	members[2] = network.again(t, members[2])
	if err := members[2].TrimSoon(); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, members[0], members[0].write(t, "first", 1), members...)
	return func(point string, happens func() error) { wanted.Store(&event{point, happens}) }
}

func diskError() error { return syscall.EIO }

// A server ends at the first error of its disk, whatever it was doing; the others go on, and once it is started again on a
// disk that works, it is one of them.
func TestADiskErrorAtAnyStepEndsTheServerAndNoOther(t *testing.T) {
	for doing, leads := range map[string]bool{"append a batch": true, trimming: true, "save the term": false, "save the vote": false} {
		for _, when := range []string{"before ", "after "} {
			t.Run(when+doing, func(t *testing.T) {
				members, network := three(t)
				on := breakable(t, members, network)
				leader := members[0]
				if leads {
					if err := leader.TransferLeadership(t.Context(), "s3"); err != nil {
						t.Fatal(err)
					}
					leader = members[2]
					leader.awaitLeading(t)
				}
				acked := leader.write(t, "before", 5)
				on(when+doing, diskError)
				acked = append(acked, untilDone(t, members, leads)...)
				members[2].end() // as its process does
				acked = append(acked, writeSomewhere(t, members[:2], 5)...)
				on("", nil)
				members[2] = network.again(t, members[2])
				mustAgree(t, leaderOf(t, members...), acked, members...)
			})
		}
	}
}

// untilDone keeps the third of the servers busy until it ends: by writes if it leads, else by elections.
func untilDone(t *testing.T, members []*member, leads bool) (acked []string) {
	t.Helper()
	for ctx, n := deadline(t, 60*time.Second), 0; ; n++ {
		select {
		case <-members[2].Done():
			return acked
		case <-ctx.Done():
			t.Fatal("its disk fails, and it goes on")
		default:
		}
		if leads {
			if name := fmt.Sprint("during", n); members[2].create(name, 1000) == nil {
				acked = append(acked, name)
			}
			continue
		}
		leader := leaderOf(t, members[:2]...)
		_ = leader.TransferLeadership(ctx, map[string]string{"s1": "s2", "s2": "s1"}[leader.id]) // or there is an election without
	}
}

// A snapshot that cannot be written costs nothing but room: the log stays.
func TestADiskErrorInASnapshotEndsNobody(t *testing.T) {
	for _, doing := range []string{"write a snapshot", "finish a snapshot", "seal a snapshot"} {
		for _, when := range []string{"before ", "after "} {
			t.Run(when+doing, func(t *testing.T) {
				members, network := three(t)
				on := breakable(t, members, network)
				on(when+doing, diskError)
				if err := members[2].raft.Snapshot().Error(); err == nil {
					t.Fatal("a snapshot was taken")
				}
				if found := snapshotsOf(t, members[2]); len(found) > 0 {
					t.Errorf("what is left of it is taken for one: %q", found)
				}
				acked := members[0].write(t, "more", 50)
				on("", nil)
				mustAgree(t, members[0], acked, members...)
				members[2].end()
				members[2] = network.again(t, members[2])
				mustAgree(t, members[0], append(acked, members[0].write(t, "after", 1)...), members...)
			})
		}
	}
}

// One that is gone in the middle of a hand-over leaves two that go on, and loses nothing.
func TestAServerThatEndsWhileItHandsOver(t *testing.T) {
	for _, point := range []string{"before hand over", "after hand over"} {
		t.Run(point, func(t *testing.T) {
			members, network := three(t)
			on := breakable(t, members, network)
			if err := members[0].TransferLeadership(t.Context(), "s3"); err != nil {
				t.Fatal(err)
			}
			members[2].awaitLeading(t)
			acked := members[2].write(t, "before", 20)
			on(point, func() error { network.isolate(members[2].address()); return nil })
			_ = members[2].HandOver(deadline(t, 60*time.Second)) // nobody hears what came of it
			leader := leaderOf(t, members[:2]...)
			acked = append(acked, leader.write(t, "without", 5)...)
			members[2].end()
			network.heal()
			members[2] = network.again(t, members[2])
			mustAgree(t, leader, append(acked, leader.write(t, "after", 1)...), members...)
		})
	}
}
