package raftlog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// again starts a member that has ended, at the address it had.
func (w *wire) again(t *testing.T, m *member) *member {
	t.Helper()
	cfg := m.cfg
	cfg.Streams = w.joinAt(t, m.id, m.address())
	return newMember(t, cfg)
}

// change rewrites files of a member that has ended.
func (m *member) change(t *testing.T, pattern string, with func([]byte) []byte) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.cfg.Dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	for _, path := range found {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, with(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitMembers waits until the leader knows these voters, and no other member, all of them answering.
func (m *member) awaitMembers(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for ctx := deadline(t, 20*time.Second); ctx.Err() == nil; {
		servers, err := m.Servers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		for _, s := range servers {
			got = append(got, fmt.Sprint(s.ID, map[bool]string{true: "", false: " without a vote"}[s.Voter], map[bool]string{true: "", false: " not reached"}[s.Reached]))
		}
		if slices.Sort(got); slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("members = %q, want %q", got, want)
}

// P10: a server whose files are damaged takes no part with what is left of them. It keeps them, and gets everything from the
// others, and its vote; nobody does anything about it.
func TestADamagedServerComesBackByItself(t *testing.T) {
	flip := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("xxxxxxxx"), []byte("xxxxxxxy")) }
	unharmed := map[string]bool{"snapshot's index changed": true} // the log alone has everything
	for name, damage := range map[string]func(*testing.T, *member){
		"log emptied":     func(t *testing.T, m *member) { m.change(t, "raft.db", func([]byte) []byte { return nil }) },
		"log cut in half": func(t *testing.T, m *member) { m.change(t, "raft.db", func(b []byte) []byte { return b[:len(b)/2] }) },
		"log deleted": func(t *testing.T, m *member) {
			if err := os.Remove(filepath.Join(m.cfg.Dir, "raft.db")); err != nil {
				t.Fatal(err)
			}
		},
		"bits of entries flipped": func(t *testing.T, m *member) { m.change(t, "raft.db", flip) },
		"snapshot damaged":        func(t *testing.T, m *member) { m.change(t, "snapshots/*/state.bin", flip) },
		"snapshot's index changed": func(t *testing.T, m *member) {
			m.change(t, "snapshots/*/meta.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"Index":`), []byte(`"Index":1`), 1) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			members, network := three(t)
			members[2].end()
			members[2].cfg.SnapshotBytes = 100_000
			members[2] = network.again(t, members[2])
			acked := members[0].write(t, "before", 60)
			for len(snapshotsOf(t, members[2])) == 0 {
				acked = append(acked, members[0].write(t, fmt.Sprint("more", len(acked), "-"), 20)...)
			}
			mustAgree(t, members[0], acked, members...)
			members[2].end()
			damage(t, members[2])
			acked = append(acked, members[0].write(t, "meanwhile", 20)...)
			members[2] = network.again(t, members[2])
			members[0].awaitMembers(t, "s1", "s2", "s3")
			mustAgree(t, members[0], append(acked, members[0].write(t, "proof", 1)...), members...)
			if kept, _ := filepath.Glob(filepath.Join(members[2].cfg.Dir, asideDir, "*", "identity")); len(kept) != 1 && !unharmed[name] {
				t.Errorf("set aside: %q, want one log", kept)
			}
			network.isolate(members[1].address()) // so that its vote and its disk are needed
			members[0].write(t, "after", 5)
		})
	}
}

func snapshotsOf(t *testing.T, m *member) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.cfg.Dir, "snapshots", "*", "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(f string) bool { return strings.Contains(f, ".tmp") })
}

// What it had acknowledged is on one other disk alone. With the vote of the server that forgot it, one that never had it
// would lead, and it would be lost.
func TestAServerThatForgotHelpsNobodyToLead(t *testing.T) {
	members, network := three(t)
	network.isolate(members[1].address())
	acked := members[0].write(t, "onlyOnTwo", 20)
	members[0].end()
	members[2].end()
	members[2].change(t, "raft.db", func([]byte) []byte { return nil })
	members[2] = network.again(t, members[2])
	network.heal()
	if _, err := os.Stat(filepath.Join(members[2].cfg.Dir, asideDir)); err != nil {
		t.Fatal(err)
	}
	ask := raft.NewNetworkTransport(layer{network.join(t, "s9")}, 1, time.Second, nil)
	defer ask.Close()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(members[1].member), Addr: []byte(members[1].address())}
	var vote raft.RequestVoteResponse
	if err := ask.RequestVote(members[2].member, raft.ServerAddress(members[2].address()), &raft.RequestVoteRequest{RPCHeader: header, Term: 99, LastLogIndex: 999, LastLogTerm: 98}, &vote); err != nil {
		t.Fatal(err)
	}
	var before raft.RequestPreVoteResponse
	if err := ask.RequestPreVote(members[2].member, raft.ServerAddress(members[2].address()), &raft.RequestPreVoteRequest{RPCHeader: header, Term: 99, LastLogIndex: 999, LastLogTerm: 98}, &before); err != nil {
		t.Fatal(err)
	}
	if vote.Granted || before.Granted {
		t.Errorf("a server that forgot what it acknowledged gave its vote: %v, %v", vote.Granted, before.Granted)
	}
	members[0] = network.again(t, members[0])
	leader := leaderOf(t, members...)
	leader.awaitMembers(t, "s1", "s2", "s3")
	mustAgree(t, leader, acked, members...)
}

// The server that began the cluster is told to begin one at every start. It must not, in place of the one it lost.
func TestTheFirstServerDoesNotBeginAnotherCluster(t *testing.T) {
	members, network := three(t)
	acked := members[0].write(t, "before", 20)
	if err := members[0].HandOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	members[0].end()
	members[0].change(t, "raft.db", func([]byte) []byte { return nil })
	members[0] = network.again(t, members[0])
	leader := leaderOf(t, members...)
	leader.awaitMembers(t, "s1", "s2", "s3")
	mustAgree(t, leader, acked, members...)
}

// A directory that was emptied altogether knows nothing, not even that it was a server's: whoever adds it again under the old
// name gets another member.
func TestAnEmptiedDirectoryIsAnotherMemberOfTheSameName(t *testing.T) {
	members, network := three(t)
	acked := members[0].write(t, "before", 20)
	members[2].end()
	if err := os.RemoveAll(members[2].cfg.Dir); err != nil {
		t.Fatal(err)
	}
	old := members[2].member
	members[2] = network.again(t, members[2])
	if members[2].member == old {
		t.Fatal("an empty log passes for the one that was lost")
	}
	if err := members[0].AddVoter(t.Context(), "s3", members[2].address()); err != nil {
		t.Fatal(err)
	}
	members[0].awaitMembers(t, "s1", "s2", "s3")
	mustAgree(t, members[0], acked, members...)
}

func TestADamagedServerWithoutAMajorityBesideItIsRefused(t *testing.T) {
	network := newWire(t)
	first := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s1", Bootstrap: true, Streams: network.join(t, "s1"), Patience: patient})
	first.awaitLeading(t)
	second := newMember(t, Config{Dir: filepath.Join(t.TempDir(), "raft"), ID: "s2", Streams: network.join(t, "s2"), Patience: patient})
	if err := first.AddVoter(t.Context(), "s2", second.address()); err != nil {
		t.Fatal(err)
	}
	first.write(t, "a", 5)
	second.end()
	second.change(t, "raft.db", func([]byte) []byte { return nil })
	cfg := second.cfg
	cfg.Store, cfg.Streams = newStore(), network.joinAt(t, "s2", second.address())
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "no majority") || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("err = %v", err)
	}
	if aside, err := os.Stat(filepath.Join(cfg.Dir, asideDir)); err == nil {
		t.Errorf("%s was made for nothing", aside.Name())
	}
}

func TestARemovedServerThatIsDamagedStaysOut(t *testing.T) {
	members, network := three(t)
	members[0].write(t, "before", 5)
	members[2].end()
	if err := members[0].RemoveServer(t.Context(), "s3"); err != nil {
		t.Fatal(err)
	}
	members[2].change(t, "raft.db", func([]byte) []byte { return nil })
	back := network.again(t, members[2])
	if err := back.askBack(deadline(t, 20*time.Second)); err == nil || !strings.Contains(err.Error(), "it was removed") {
		t.Errorf("err = %v", err)
	}
	members[0].awaitMembers(t, "s1", "s2")
}

func TestOnlyTheLastDamagedLogsAreKept(t *testing.T) {
	members, network := three(t)
	for range asideKept + 2 {
		for ctx := deadline(t, 30*time.Second); !members[2].disk.identity.now().Voter; {
			if ctx.Err() != nil {
				t.Fatal("it has not noted that it has a vote")
			}
		}
		members[2].end()
		members[2].change(t, "raft.db", func([]byte) []byte { return nil })
		members[2] = network.again(t, members[2])
		members[0].awaitMembers(t, "s1", "s2", "s3")
		mustAgree(t, members[0], nil, members...)
	}
	newest := members[2].disk.identity.now().Member
	kept, err := filepath.Glob(filepath.Join(members[2].cfg.Dir, asideDir, "*", "identity"))
	if err != nil || len(kept) != asideKept {
		t.Fatalf("kept: %q, %v; want %d", kept, err, asideKept)
	}
	if last, err := os.ReadFile(kept[asideKept-1]); err != nil || strings.Contains(string(last), newest) {
		t.Errorf("the newest that is kept is %s, %v", last, err)
	}
}
