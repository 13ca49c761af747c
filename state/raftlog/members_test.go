package raftlog

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// voters makes servers of their names: a capital leads, one in parentheses does not answer, one after "-" has no vote.
func voters(names string) (servers []Server) {
	for name := range strings.FieldsSeq(names) {
		s := Server{Voter: !strings.HasPrefix(name, "-"), Reached: !strings.HasPrefix(name, "(")}
		s.ID = strings.ToLower(strings.Trim(name, "-()"))
		s.Leader = s.ID != strings.Trim(name, "-()")
		s.Address = s.ID + ":7443"
		servers = append(servers, s)
	}
	return servers
}

func TestAServerIsAddedOnlyIfTheClusterGoesOnWriting(t *testing.T) {
	for name, tc := range map[string]struct {
		servers string
		added   Server
		want    string // in the error; "" is none
	}{
		"a second":                         {"A", Server{ID: "b", Address: "b:7443", Voter: true, Reached: true}, ""},
		"one that does not answer":         {"A", Server{ID: "b", Address: "b:7443", Voter: true}, "does not answer"},
		"no voter, and it does not answer": {"A", Server{ID: "b", Address: "b:7443"}, "does not answer"},
		"a fourth for one that is gone":    {"A b (c)", Server{ID: "d", Address: "d:7443", Voter: true, Reached: true}, ""},
		"a fifth while two are gone":       {"A b (c) (d)", Server{ID: "e", Address: "e:7443", Voter: true, Reached: true}, ""},
		"a fourth while two are gone":      {"A (b) (c)", Server{ID: "d", Address: "d:7443", Voter: true, Reached: true}, "2 of 4 voters"},
		"a reader while two are gone":      {"A (b) (c)", Server{ID: "d", Address: "d:7443", Reached: true}, ""},
		"at another's address":             {"A b", Server{ID: "c", Address: "b:7443", Voter: true, Reached: true}, "server b is at this address"},
		"with another's name":              {"A b", Server{ID: "b", Address: "c:7443", Voter: true, Reached: true}, "answers at b:7443"},
		"one that moved":                   {"A (b)", Server{ID: "b", Address: "c:7443", Voter: true, Reached: true}, ""},
		"a voter as a reader":              {"A b", Server{ID: "b", Address: "b:7443", Reached: true}, "has a vote"},
		"one that lost its log":            {"A b c", Server{ID: "b", Address: "b:7443", member: "b#2", Voter: true, Reached: true}, ""},
		"one that lost it, another gone":   {"A b (c)", Server{ID: "b", Address: "b:7443", member: "b#2", Voter: true, Reached: true}, "1 of 2 voters"},
		"a reader becomes a voter":         {"A -b", Server{ID: "b", Address: "b:7443", Voter: true, Reached: true}, ""},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, mayAdd(voters(tc.servers), tc.added), tc.want) })
	}
}

func TestAServerIsRemovedOnlyIfTheOthersGoOnWriting(t *testing.T) {
	for name, tc := range map[string]struct{ servers, id, want string }{
		"one of three":                        {"A b c", "b", ""},
		"the one that is gone":                {"A b (c)", "c", ""},
		"a good one while another is gone":    {"A b (c)", "b", "1 of 2 voters"},
		"one of five, two gone":               {"A b c (d) (e)", "c", "2 of 4 voters"},
		"one of two that is gone":             {"A (b)", "b", ""},
		"a reader":                            {"A -b", "b", ""},
		"the leader":                          {"A b c", "a", "leads"},
		"the only one":                        {"a", "a", "0 of 0 voters"},
		"nobody":                              {"A b c", "x", "no such server"},
		"the last but a reader, from afar":    {"a -b", "a", "0 of 0 voters"},
		"one whose successor does not answer": {"A b (c) (d)", "b", "1 of 3 voters"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, mayRemove(voters(tc.servers), tc.id), tc.want) })
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("err = %v, want one with %q", err, want)
	}
}

func TestMembersComeAndGo(t *testing.T) {
	members, network := three(t)
	acked := members[0].write(t, "before", 20)
	fourth := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s4", Streams: network.join(t, "s4"), Patience: patient})
	if err := members[0].AddNonvoter(t.Context(), "s4", fourth.address()); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, members[0], acked, fourth)
	if err := members[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := members[0].RemoveServer(t.Context(), "s3"); !errors.Is(err, ErrMajority) {
		t.Errorf("one of the two that are left was removed: %v", err)
	}
	if err := members[0].RemoveServer(t.Context(), "s2"); err != nil {
		t.Fatal(err)
	}
	if err := members[0].AddVoter(t.Context(), "s4", fourth.address()); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, members[0], append(acked, members[0].write(t, "after", 1)...), fourth) // so it has heard of its vote, too
	servers, err := fourth.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range servers {
		if s.Voter && s.Reached && s.Index > 0 && s.Leader == (s.ID == "s1") {
			got = append(got, s.ID)
		}
	}
	if want := []string{"s1", "s3", "s4"}; !slices.Equal(got, want) {
		t.Errorf("the new server knows %v of %+v, want %v", got, servers, want)
	}
}

// Each of them may go while the other stays. Both look at the members at the same time, since a server that does not answer
// keeps both waiting.
func TestTwoServersAreNotRemovedAtOnce(t *testing.T) {
	members, network := three(t)
	fourth := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s4", Streams: network.join(t, "s4"), Patience: patient})
	if err := members[0].AddVoter(t.Context(), "s4", fourth.address()); err != nil {
		t.Fatal(err)
	}
	mute := make(chan struct{})
	t.Cleanup(func() { close(mute) })
	network.mu.Lock()
	network.mute[fourth.address()] = mute
	network.mu.Unlock()
	network.isolate(fourth.address())
	removed := make(chan error, 2)
	for _, id := range []string{"s2", "s3"} {
		go func() { removed <- members[0].RemoveServer(t.Context(), id) }()
	}
	first, second := <-removed, <-removed
	if first != nil || !errors.Is(second, ErrMajority) {
		t.Errorf("one ended with %v, then the other with %v", first, second)
	}
	if err := members[0].create("after", 1); err != nil {
		t.Errorf("the servers that are left cannot write: %v", err)
	}
}

// A voter that nobody reaches would be half of a cluster of two: no write would ever be acknowledged again.
func TestASingleServerDoesNotGiveItsMajorityToAWrongAddress(t *testing.T) {
	network := newWire(t)
	m := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient})
	m.awaitLeading(t)
	if err := m.AddVoter(t.Context(), "s2", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "add server s2 at 127.0.0.1:1: it does not answer there") {
		t.Errorf("a server at an address where there is none: %v", err)
	}
	if err := m.AddVoter(t.Context(), "s2", m.address()); err == nil {
		t.Error("the server was added to itself by another name")
	}
	if err := m.create("a", 1); err != nil {
		t.Error(err)
	}
}

// Before servers knew of each other, a cluster of one called itself by its name.
func TestAClusterThatBeganAloneGrows(t *testing.T) {
	network, dir := newWire(t), filepath.Join(t.TempDir(), "raft")
	alone := newMember(t, Config{Dir: dir, ID: "s1", Bootstrap: true})
	alone.awaitLeading(t)
	acked := alone.write(t, "alone", 5)
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	first := newMember(t, Config{Dir: dir, ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient})
	first.awaitLeading(t)
	second := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s2", Streams: network.join(t, "s2"), Patience: patient})
	if err := first.AddVoter(t.Context(), "s2", second.address()); err != nil {
		t.Fatal(err)
	}
	if err := first.TransferLeadership(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	second.awaitLeading(t)
	if _, err := first.ReadIndex(deadline(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	mustAgree(t, second, acked, first)
}
