package raftlog

import (
	"errors"
	"path/filepath"
	"testing"
)

// deafen closes a server's port: connections that there are live on, new ones are refused.
func (w *wire) deafen(t *testing.T, address string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ports[address].Close(); err != nil {
		t.Fatal(err)
	}
}

// Raft alone never notices: the leader's heartbeats travel on connections that it made.
func TestALeaderThatNobodyReachesHandsOver(t *testing.T) {
	members, network := cluster(t, 0)
	acked := writeSomewhere(t, members, 5)
	deaf := leaderOf(t, members...)
	network.deafen(t, deaf.address())
	next := leaderOf(t, others(members, deaf)...)
	acked = append(acked, "after")
	if err := next.create("after", 1); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, next, acked, others(members, deaf)...)
}

// With the only other voter in the lead, nobody would reach anybody: it would be elected back and forth.
func TestALeaderThatNobodyReachesStaysWhereNobodyIsBetterOff(t *testing.T) {
	network := newWire(t)
	first := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient})
	first.awaitLeading(t)
	if reached, unreached := first.outside(t.Context()); reached != 0 || unreached != 0 {
		t.Errorf("of nobody %d reach a single server, %d do not", reached, unreached)
	}
	second := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s2", Streams: network.join(t, "s2"), Patience: patient})
	if err := first.AddVoter(t.Context(), "s2", second.address()); err != nil {
		t.Fatal(err)
	}
	if reached, unreached := first.outside(t.Context()); reached != 1 || unreached != 0 {
		t.Errorf("%d reach a good leader, %d do not", reached, unreached)
	}
	network.deafen(t, first.address())
	if reached, unreached := first.outside(t.Context()); reached != 0 || unreached != 1 {
		t.Errorf("%d reach a leader whose port is dead, %d do not", reached, unreached)
	}
	if err := first.stepAside(t.Context()); !errors.Is(err, ErrNoHeir) {
		t.Errorf("err = %v, want ErrNoHeir", err)
	}
	first.write(t, "after", 1)
}

func TestALeaderGoesWhenNobodyReachedItThriceInARow(t *testing.T) {
	v := &vigil{}
	for i, tc := range []struct {
		reached, unreached int
		want               bool
	}{
		{0, 2, false}, {0, 2, false}, {1, 1, false}, // one got through: it begins anew
		{0, 2, false}, {0, 1, false}, {0, 0, false}, // nobody says anything: nothing is known
		{0, 2, false}, {0, 1, false}, {0, 2, true},
		{0, 2, false}, // who stayed counts anew
	} {
		if got := v.see(tc.reached, tc.unreached); got != tc.want {
			t.Errorf("look %d: goes = %t, want %t", i, got, tc.want)
		}
	}
}
