package chaos

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFaultsFindWhomTheyAreFor(t *testing.T) {
	a, b, c := &server{name: "a"}, &server{name: "b"}, &server{name: "c"}
	all := []*server{a, b, c}
	if got := choose(all, b, Fault{Whom: Leader}); got != b {
		t.Errorf("the leader is %s", got.name)
	}
	for dice := range uint64(100) {
		if got := choose(all, b, Fault{Whom: Follower, Dice: dice}); got == b {
			t.Fatal("the leader is taken for a follower")
		}
	}
	seen := map[*server]bool{}
	for dice := range uint64(100) {
		seen[choose(all, nil, Fault{Whom: Leader, Dice: dice})] = true
		seen[choose([]*server{a}, b, Fault{Whom: Leader, Dice: dice})] = true // another lane has the leader
	}
	if len(seen) != len(all) || len(all) != 3 {
		t.Errorf("without a leader only %d of %d are chosen", len(seen), len(all))
	}
}

func TestNobodyIsHurtByTwoLanesAtOnce(t *testing.T) {
	c := &cluster{servers: []*server{{name: "a"}, {name: "b"}, {name: "c"}}, taken: map[*server]bool{}}
	crashed := c.take(nil, Fault{Kind: Crash})
	if len(crashed) != 3 {
		t.Fatalf("a crash takes %d of 3", len(crashed))
	}
	if other := c.take(nil, Fault{Kind: Kill}); other != nil {
		t.Errorf("while all are taken, another lane gets %s", other[0].name)
	}
	c.giveBack(crashed)
	one := c.take(nil, Fault{Kind: Kill})
	if len(one) != 1 {
		t.Fatalf("a kill takes %d", len(one))
	}
	if other := c.take(nil, Fault{Kind: Crash}); other != nil {
		t.Errorf("a crash takes %d though another lane has one", len(other))
	}
}

func TestMetricsAreRead(t *testing.T) {
	got, err := parseMetrics(strings.NewReader("# HELP mainstay_raft_leader 1 if this server leads.\nmainstay_raft_leader 1\nmainstay_raft_term 7\nother{a=\"b\"} 1\n"))
	if err != nil || got["mainstay_raft_leader"] != 1 || got["mainstay_raft_term"] != 7 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestCommitsOfManyPartsNeedMoreThanOneEntry(t *testing.T) {
	const entry = 512 << 10
	if size := len(manifest(1, large, manyParts)); size < entry {
		t.Errorf("a large commit has %d bytes", size)
	}
	if got := strings.Count(manifest(1, small, fewParts+1), "name: part-"); got != fewParts+1 {
		t.Errorf("%d parts, want %d", got, fewParts+1)
	}
}

func TestEveryKindOfCommitCanFollowItself(t *testing.T) {
	r := newRepository(t, filepath.Join(t.TempDir(), "repo"), 1)
	for i, kind := range []change{small, small, large, large, broken, broken, emptied, emptied, small} {
		if err := r.commit(i+1, kind, fewParts); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
