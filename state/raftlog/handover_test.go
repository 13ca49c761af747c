package raftlog

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/state"
)

func TestAHandOverIsQuick(t *testing.T) {
	members, _ := three(t)
	acked := members[0].write(t, "before", 20)
	began := time.Now()
	if err := members[0].TransferLeadership(t.Context(), "s3"); err != nil {
		t.Fatal(err)
	}
	members[2].awaitLeading(t)
	t.Logf("%v until s3 took writes", time.Since(began))
	mustAgree(t, members[2], acked, members...)
	if err := members[0].TransferLeadership(t.Context(), "s2"); !errors.Is(err, state.ErrNotLeader) {
		t.Errorf("a follower handed over: %v", err)
	}
	if err := members[2].TransferLeadership(t.Context(), "s9"); err == nil {
		t.Error("the leader handed over to a server that there is not")
	}
}

// A server that is gone has all there is of an idle log, as far as its leader knows.
func TestALeaderHandsOverToOneThatAnswers(t *testing.T) {
	members, _ := three(t)
	acked := members[0].write(t, "before", 5)
	mustAgree(t, members[0], acked, members...)
	if err := members[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := members[0].HandOver(deadline(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	members[2].awaitLeading(t)
	mustAgree(t, members[2], append(acked, members[2].write(t, "after", 5)...), members[0])
	if err := members[0].HandOver(t.Context()); err != nil {
		t.Errorf("a follower has nothing to hand over, and says %v", err)
	}
}

func TestALeaderThatIsAloneHasNobodyToHandOverTo(t *testing.T) {
	network := newWire(t)
	m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient})
	m.awaitLeading(t)
	if err := m.HandOver(t.Context()); !errors.Is(err, ErrNoHeir) {
		t.Errorf("err = %v, want ErrNoHeir", err)
	}
	if err := m.create("a", 1); err != nil {
		t.Errorf("it no longer writes: %v", err)
	}
}

func TestDutiesThatFailAreHandedOver(t *testing.T) {
	network := newWire(t)
	fails := make(chan struct{})
	first, err := Open(Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient, Store: newStore()})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithCancel(t.Context())
	led := make(chan error, 1)
	go func() {
		led <- first.Lead(ctx, func(ctx context.Context) error {
			select {
			case <-fails:
				return errors.New("broken part")
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	defer func() { cancel(); <-led }()
	second := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s2", Streams: network.join(t, "s2"), Patience: patient})
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err = first.AddVoter(t.Context(), "s2", second.address()); err == nil || time.Now().After(deadline) {
			break
		}
		if !errors.Is(err, state.ErrNotLeader) {
			t.Fatal(err)
		}
	}
	close(fails)
	second.awaitLeading(t)
	second.write(t, "after", 1)
}

func TestDutiesThatKeepFailingArePassedOnSlowly(t *testing.T) {
	p := &pace{}
	var got []time.Duration
	for _, worked := range []time.Duration{0, time.Millisecond, 0, 0, 0, 0, 0, 0, time.Minute, 0} {
		got = append(got, p.after(worked)/time.Millisecond)
	}
	if want := []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 5000, 0, 100}; !slices.Equal(got, want) {
		t.Errorf("waits = %d ms, want %d", got, want)
	}
}
