package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// patient is what a busy machine does not exhaust: for tests in which the leader is to stay.
const patient = time.Second

// three starts a server and adds two, over the wire.
func three(t testing.TB) ([]*member, *wire) {
	t.Helper()
	return cluster(t, patient)
}

func cluster(t testing.TB, patience time.Duration) ([]*member, *wire) {
	t.Helper()
	var members []*member
	network := newWire(t)
	for _, id := range []string{"s1", "s2", "s3"} {
		members = append(members, newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: id, Bootstrap: id == "s1", Streams: network.join(t, id), Patience: patience}))
	}
	members[0].awaitLeading(t)
	for _, m := range members[1:] {
		if err := members[0].AddVoter(t.Context(), m.id, m.address()); err != nil {
			t.Fatal(err)
		}
	}
	return members, network
}

// leaderOf waits until one of the members takes writes.
func leaderOf(t testing.TB, members ...*member) *member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	leads := make(chan *member, len(members))
	for _, m := range members {
		go func() {
			if m.store.Leading(ctx) == nil {
				leads <- m
			}
		}()
	}
	return soon(t, "a leader", leads)
}

// mustAgree expects every member to come to the very same state, which has all of names.
func mustAgree(t *testing.T, leader *member, names []string, members ...*member) {
	t.Helper()
	index, err := leader.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for _, m := range append([]*member{leader}, members...) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		snap, err := m.store.WaitIndex(ctx, index)
		if err != nil {
			t.Fatalf("%s does not get what %s acknowledged: %v", m.id, leader.id, err)
		}
		mustHave(t, m.store, names)
		var got bytes.Buffer
		if err := snap.Persist(&got); err != nil {
			t.Fatal(err)
		}
		if want.Len() == 0 {
			want = got
		} else if !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Errorf("the state of %s differs from that of %s", m.id, leader.id)
		}
	}
}

// write creates objects as long as it is told to, and returns those that were acknowledged.
func (m *member) write(t *testing.T, prefix string, n int) (acked []string) {
	t.Helper()
	for i := range n {
		name := fmt.Sprint(prefix, i)
		if err := m.create(name, 1000); err != nil {
			t.Fatal(err)
		}
		acked = append(acked, name)
	}
	return acked
}

// writeSomewhere writes to whoever leads, again if leadership changes meanwhile.
func writeSomewhere(t *testing.T, members []*member, n int) (acked []string) {
	t.Helper()
	for i := range n {
		name := fmt.Sprint("cm", i)
		err := state.ErrUnknown
		for errors.Is(err, state.ErrUnknown) || errors.Is(err, state.ErrNotLeader) {
			err = leaderOf(t, members...).create(name, 1000)
		}
		if err != nil && !errors.Is(err, state.ErrConflict) { // a conflict with what is there since the outcome was unknown
			t.Fatal(err)
		}
		acked = append(acked, name)
	}
	return acked
}

// others are all members but one.
func others(members []*member, but *member) []*member {
	return slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == but })
}

func TestAKilledLeaderIsReplacedAndNothingAcknowledgedIsLost(t *testing.T) {
	members, _ := cluster(t, 0)
	acked := writeSomewhere(t, members, 50)
	victim := leaderOf(t, members...)
	killed := time.Now()
	if err := victim.Close(); err != nil {
		t.Fatal(err)
	}
	left := others(members, victim)
	next := leaderOf(t, left...)
	if err := next.create("after", 1); err != nil {
		t.Fatal(err)
	}
	took := time.Since(killed)
	t.Logf("%v from the kill to the next write", took)
	if took > 3*time.Second {
		t.Errorf("%v from the kill to the next write, want at most 3s", took)
	}
	mustAgree(t, next, append(acked, "after"), left...)
}

func TestALeaderCutOffWritesNothingAndFollowsWhenItIsBack(t *testing.T) {
	members, network := three(t)
	old := members[0]
	acked := old.write(t, "before", 20)
	network.isolate(old.address())
	if index, err := old.ReadIndex(deadline(t, 10*time.Second)); err == nil {
		t.Errorf("a leader that is cut off promises that %d is the newest", index)
	}
	lost := make(chan error, 1)
	go func() { lost <- old.create("lost", 1) }()
	next := leaderOf(t, members[1:]...)
	if err := soon(t, "the write of a leader that is cut off", lost); err == nil {
		t.Error("a leader without a majority acknowledged a write")
	}
	acked = append(acked, next.write(t, "meanwhile", 20)...)
	if index, err := old.ReadIndex(deadline(t, 10*time.Second)); err == nil {
		t.Errorf("one that led last, as far as it knows, promises that %d is the newest, though others have voted since", index)
	}
	term := next.raft.CurrentTerm()
	network.heal()
	mustAgree(t, next, acked, members...)
	if got := next.raft.CurrentTerm(); got != term {
		t.Errorf("who came back began term %d, want %d still", got, term)
	}
}

// Without pre-votes a follower that was away brings a higher term with it, and the leader has to step down.
func TestAFollowerThatWasCutOffDisturbsNobody(t *testing.T) {
	members, network := three(t)
	term := members[0].raft.CurrentTerm()
	network.isolate(members[2].address())
	for asked := 0; asked < 6; { // It gives up on its leader, and asks the other two for votes, three times.
		if soon(t, "a call for votes", network.refused) == members[2].address() {
			asked++
		}
	}
	acked := members[0].write(t, "meanwhile", 20)
	network.heal()
	mustAgree(t, members[0], acked, members...)
	for _, m := range members {
		if got := m.raft.CurrentTerm(); got != term {
			t.Errorf("%s is in term %d, want %d", m.id, got, term)
		}
	}
}

func deadline(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryServerKnowsWhatWasAcknowledged(t *testing.T) {
	members, network := three(t)
	for i := range 20 {
		name := fmt.Sprint("cm", i)
		if err := members[0].create(name, 1); err != nil {
			t.Fatal(err)
		}
		follower := members[1+i%2]
		index, err := follower.ReadIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := follower.store.WaitIndex(deadline(t, 20*time.Second), index); err != nil {
			t.Fatal(err)
		}
		mustHave(t, follower.store, []string{name})
	}
	network.isolate(members[2].address())
	if _, err := members[2].ReadIndex(deadline(t, 10*time.Second)); !errors.Is(err, state.ErrNotLeader) && !errors.Is(err, state.ErrUnknown) {
		t.Errorf("ReadIndex of a server that is cut off = %v", err)
	}
}

// A follower may apply an entry before the leader does, and show it. Whoever asks the leader then must not be shown less.
func TestALeaderAnswersWhatFasterServersShow(t *testing.T) {
	network, late := newWire(t), make(chan struct{})
	var calls atomic.Int32
	slow := tables.Schema()
	state.AddIndex(slow, state.NewIndex("slow", func(m *corev1.ConfigMap) []string {
		if m.Name == "late" && calls.Add(1) > 1 { // the first is in the transaction
			<-late
		}
		return nil
	}))
	leader := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient, Store: state.New(slow, time.Now)})
	leader.awaitLeading(t)
	var follower *member
	for _, id := range []string{"s2", "s3"} {
		follower = newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: id, Streams: network.join(t, id), Patience: patient})
		if err := leader.AddVoter(t.Context(), follower.id, follower.address()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := leader.ReadIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := follower.store.View().Version
	created := make(chan error, 1)
	go func() { created <- leader.create("late", 1) }()
	shown, err := follower.store.Wait(deadline(t, 20*time.Second), before+1)
	if err != nil {
		t.Fatal(err)
	}
	index, err := leader.ReadIndex(deadline(t, 20*time.Second))
	if err != nil || index < shown.Index {
		t.Errorf("the leader answers index %d (%v), but a follower shows %d", index, err, shown.Index)
	}
	close(late)
	if err := <-created; err != nil {
		t.Error(err)
	}
}
