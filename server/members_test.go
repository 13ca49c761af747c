package server

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// voters says that the cluster knows these servers, and no others, and that all have a vote.
func voters(names ...string) func(state.Reader) bool {
	return func(r state.Reader) bool {
		var found []string
		for s := range state.List[*object.Server](r, "") {
			if s.Spec.Pending || s.Spec.NonVoter || s.Spec.Address == "" {
				return false
			}
			found = append(found, s.Name)
		}
		return slices.Equal(found, names)
	}
}

// tokenFor makes a token for a server, where one leads.
func (c *trio) tokenFor(t *testing.T) string {
	t.Helper()
	return c.sites[c.leader(t)].token(t, join.Wanted{Role: object.RoleServer})
}

// active says that a commit is in force.
func active(commit string) func(state.Reader) bool {
	return func(r state.Reader) bool {
		cluster := plan.LiveCluster(r)
		return cluster != nil && cluster.Status.Revision != "" && strings.HasPrefix(commit, cluster.Status.Revision)
	}
}

func TestAClusterGrowsFromOneToFive(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	until(t, c.servers[0], "three have a vote", voters("s1", "s2", "s3"))
	c.grow(t, c.sites[0], "s4")
	c.grow(t, c.sites[0], "s5")
	for _, s := range c.servers {
		until(t, s, "five have a vote", voters("s1", "s2", "s3", "s4", "s5"))
	}
	list, err := Admin{DataDir: c.sites[4].data}.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leaders := 0
	for _, m := range list {
		if m.Role != Voter || !m.Reached || m.Version != "test" {
			t.Errorf("%+v", m)
		}
		if m.Leader {
			leaders++
		}
	}
	if len(list) != 5 || leaders != 1 {
		t.Errorf("%d servers, %d leaders: %+v", len(list), leaders, list)
	}
}

func TestARemovedServerEndsAndItsPlaceMayBeTaken(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	gone := others[0]
	c.stop(t, gone)
	admin := Admin{DataDir: c.sites[others[1]].data} // a follower, which passes it on
	if err := admin.RemoveServer(t.Context(), c.sites[gone].name); err != nil {
		t.Fatal(err)
	}
	until(t, c.servers[leader], "two are left", func(r state.Reader) bool { return state.Len[*object.Server](r) == 2 })
	removed, stop := c.sites[gone].control(t)
	if err := removed.askToBelong(t.Context()); !errors.Is(err, errRemoved) {
		t.Errorf("who was removed is told %v", err)
	}
	_ = stop() // it may have ended by itself meanwhile, and has told why
	again := c.sites[gone]
	again.data, again.secret = filepath.Join(t.TempDir(), "anew"), c.sites[leader].token(t, join.Wanted{Role: object.RoleServer})
	c.start(t, gone)
	until(t, c.servers[leader], "another has its name and its address", voters("s1", "s2", "s3"))
}

func TestNothingIsRemovedThatWouldCostTheMajority(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	c.stop(t, others[0])
	admin := Admin{DataDir: c.sites[leader].data}
	if err := admin.RemoveServer(t.Context(), c.sites[others[1]].name); err == nil || !strings.Contains(err.Error(), raftlog.ErrMajority.Error()) {
		t.Errorf("the last but one that answers: %v", err)
	}
	if err := admin.RemoveServer(t.Context(), c.sites[leader].name); err == nil || !strings.Contains(err.Error(), "mainstay server transfer") {
		t.Errorf("the one that leads: %v", err)
	}
	if err := admin.RemoveServer(t.Context(), "nobody"); err == nil || !strings.Contains(err.Error(), "no such server") {
		t.Errorf("one that there is not: %v", err)
	}
}

func TestLeadershipIsHandedOverWhereItIsAskedFor(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	_, others := c.followers(t)
	to := others[0]
	if err := (Admin{DataDir: c.sites[others[1]].data}).TransferLeadership(t.Context(), c.sites[to].name); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(t); next != to {
		t.Errorf("%s leads, want %s", c.sites[next].name, c.sites[to].name)
	}
}

// What the last leader had made active is in force still, and the next commit becomes so, by another server.
func TestANewLeaderActivatesTheNextCommit(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	newMachine(t, "n1").agent(t, c.servers[0], c.sites[c.leader(t)].token(t, join.Wanted{Role: object.RoleAgent}))
	old, others := c.followers(t)
	until(t, c.servers[others[0]], "the first commit is in force", active(c.sites[0].head(t)))
	c.stop(t, old)
	next := c.leader(t, old)
	c.sites[0].commit(t, map[string]string{"more.yaml": strings.ReplaceAll(web, "web", "more")})
	until(t, c.servers[next], "the second commit is in force", active(c.sites[0].head(t)))
	c.start(t, old)
	until(t, c.servers[old], "who was away knows it", active(c.sites[0].head(t)))
}

// A whole cluster that is started again goes on, by the commands that it was started with.
func TestAllServersAreStartedAgain(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	for i := range c.servers {
		c.stop(t, i)
	}
	for i := range c.servers {
		c.start(t, i)
	}
	until(t, c.servers[c.leader(t)], "three have a vote", voters("s1", "s2", "s3"))
}

func TestANonVoterHasEverythingAndNoVote(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	s := &site{repo: c.sites[0].repo, data: filepath.Join(t.TempDir(), "s4"), host: c.sites[0].host, name: "s4", at: freeAddress(t), join: []string{c.sites[0].at}, nonVoter: true}
	s.secret = c.tokenFor(t)
	watcher, stop := s.control(t)
	until(t, watcher, "it knows itself", func(r state.Reader) bool {
		self, ok := state.Get[*object.Server](r, state.Key{Name: "s4"})
		return ok && !self.Spec.Pending && self.Spec.NonVoter
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s.nonVoter = false
	s.control(t)
	until(t, c.servers[0], "it has a vote once it is started without --non-voter", voters("s1", "s2", "s3", "s4"))
}

func TestServersThatCannotJoinSayWhatToDo(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	foreign, err := pki.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	good := c.tokenFor(t)
	parsed, err := join.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	leader := c.sites[c.leader(t)]
	for name, tc := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no token":        {func(cfg *Config) { cfg.Token = "" }, "mainstay token create --role server"},
		"an agent's":      {func(cfg *Config) { cfg.Token = leader.token(t, join.Wanted{Role: object.RoleAgent}) }, "is for the role agent"},
		"another cluster": {func(cfg *Config) { cfg.Token = strings.Replace(good, parsed.Pin, foreign.Pin(), 1) }, "not of the cluster that the token is for"},
		"name taken":      {func(cfg *Config) { cfg.Name = "s2" }, "there is a server s2 already: give this one another --name; if it takes that one's place, remove that one first: mainstay server remove s2"},
		"address taken":   {func(cfg *Config) { cfg.Advertise = c.sites[1].at }, "server s2 is at " + c.sites[1].at + " already: give this one another --advertise"},
		"impossible name": {func(cfg *Config) { cfg.Name = "S/4" }, "--name"},
		"another's data":  {func(cfg *Config) { cfg.DataDir, cfg.Name = c.sites[1].data, "s4" }, "is that of server s2"},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			cfg := Config{DataDir: filepath.Join(t.TempDir(), "data"), Join: []string{leader.at}, Token: good, Name: "s4", Version: "test", Log: slog.New(slog.DiscardHandler)}
			tc.change(&cfg)
			if _, err := newServer(t.Context(), cfg, listener); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("err = %v, want %q", err, tc.says)
			}
		})
	}
}

// One whose first start was interrupted, before or after it was let in, is started by the same command again.
func TestAServerThatWasInterruptedJoinsByTheSameCommand(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	s := &site{repo: c.sites[0].repo, data: filepath.Join(t.TempDir(), "s4"), host: c.sites[0].host, name: "s4", at: freeAddress(t), join: []string{c.sites[c.leader(t)].at}}
	s.secret = c.tokenFor(t)
	if _, _, err := enter(t.Context(), s.config(), s.at); err != nil {
		t.Fatal(err)
	}
	s.repo = "" // it follows what the others do
	joined, _ := s.control(t)
	until(t, c.servers[0], "it has a vote", voters("s1", "s2", "s3", "s4"))
	if joined.cfg.Git.Repo != c.sites[0].repo {
		t.Errorf("it follows %q, want %q", joined.cfg.Git.Repo, c.sites[0].repo)
	}
}

// Data from before servers had names is that of the server that had none.
func TestOlderDataKeepsItsServersName(t *testing.T) {
	dir := t.TempDir()
	first, err := newName("")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := newName(""); err != nil || first == second || strings.Contains(first, "=") {
		t.Errorf("%s and %s are names of two servers (%v)", first, second, err)
	}
	if _, err := pki.Open(filepath.Join(dir, "raft"), time.Now); err != nil { // any directory
		t.Fatal(err)
	}
	if m, err := readMembership(dir); err != nil || m.Name != elder || m.Joined {
		t.Errorf("%+v, %v", m, err)
	}
}

// An earlier leader may have changed the one, and have ended before it changed the other.
func TestWhatIsKnownOfTheServersIsBroughtInLineWithTheLog(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	s.name = "s1"
	running, _ := s.control(t)
	until(t, running, "it is known", voters("s1"))
	for name, change := range map[string]func(tx *state.Txn, self *object.Server){
		"a member that is not known":     func(tx *state.Txn, self *object.Server) { tx.Delete(self) },
		"a voter that is known as none":  func(tx *state.Txn, self *object.Server) { self.Spec.NonVoter = true; tx.Update(self) },
		"a voter that is known to come":  func(tx *state.Txn, self *object.Server) { self.Spec.Pending = true; tx.Update(self) },
		"one that is no member any more": func(tx *state.Txn, _ *object.Server) { tx.Create(serverAt("gone", false)) },
		"one that is yet to come":        func(tx *state.Txn, _ *object.Server) { tx.Create(serverAt("coming", true)) },
	} {
		t.Run(name, func(t *testing.T) {
			statetest.Update(t, running.store, func(tx *state.Txn) {
				self, _ := state.Get[*object.Server](tx, state.Key{Name: "s1"})
				change(tx, self.DeepCopy())
			})
			if err := running.tally(t.Context()); err != nil {
				t.Fatal(err)
			}
			self, known := state.Get[*object.Server](running.store.View(), state.Key{Name: "s1"})
			if !known || self.Spec.Pending || self.Spec.NonVoter || self.Spec.Address == "" {
				t.Errorf("the member is known as %+v", self)
			}
			if _, known := state.Get[*object.Server](running.store.View(), state.Key{Name: "gone"}); known {
				t.Error("one that is no member is known still")
			}
		})
	}
	if _, known := state.Get[*object.Server](running.store.View(), state.Key{Name: "coming"}); !known {
		t.Error("one that a token has let in was forgotten")
	}
	statetest.Update(t, running.store, func(tx *state.Txn) { tx.Create(serverAt("gone", false)) })
	list, err := running.members(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "coming" || list[0].Role != Pending || list[1].Role != Voter {
		t.Errorf("while one is being removed the servers are %+v, %v", list, err)
	}
}

func serverAt(name string, pending bool) *object.Server {
	return &object.Server{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: object.ServerSpec{Address: name + ":7443", Pending: pending}}
}
