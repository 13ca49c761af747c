package server

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// widget is of a kind that came with the version after this one.
type widget struct{ corev1.ConfigMap }

func (w *widget) DeepCopyObject() runtime.Object { return &widget{*w.DeepCopy()} }

const newerLevel = object.Level + 1

// newer is what a server of the next version stores. One of this version cannot read it.
func newer() *state.Schema {
	s := tables.Schema()
	state.Register(s, object.Kind{
		GroupVersionKind: schema.GroupVersionKind{Group: "test", Version: "v1", Kind: "Widget"}, Resource: "widgets", Since: newerLevel,
		New: func() object.Object { return &widget{} },
	})
	state.SetLevels(s, state.Levels{Known: newerLevel, Reached: tables.Level})
	return s
}

func writeWidget(t *testing.T, s *server, name string) error {
	t.Helper()
	_, err := s.store.Update(t.Context(), func(tx *state.Txn) error {
		tx.Create(&widget{corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}})
		return nil
	})
	return err
}

// upgrade starts one of the servers again, as the next version, and waits until it has said so.
func (c *trio) upgrade(t *testing.T, i int) {
	t.Helper()
	c.stop(t, i)
	c.sites[i].wires.schema = newer()
	c.start(t, i)
	until(t, c.servers[i], "it has said what it reads", func(r state.Reader) bool {
		self, ok := state.Get[*object.Server](r, state.Key{Name: c.sites[i].name})
		return ok && self.Spec.Level == newerLevel
	})
}

// handTo makes one of the servers lead. Whoever led may think so for a moment longer, and a busy machine may elect somebody else.
func (c *trio) handTo(t *testing.T, i int) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if leader := c.leader(t); leader != i {
			err = Admin{DataDir: c.sites[leader].data}.TransferLeadership(t.Context(), c.sites[i].name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		led := c.servers[i].store.Leading(ctx)
		cancel()
		if led == nil {
			return
		}
	}
	t.Fatalf("%s does not lead: %v", c.sites[i].name, err)
}

// reached says that the cluster has this format level.
func reached(level int) func(state.Reader) bool {
	return func(r state.Reader) bool { return tables.Level(r) == level }
}

func TestNothingNewIsWrittenBeforeAllServersReadIt(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	refused := func(i int) {
		t.Helper()
		c.handTo(t, i)
		if err := writeWidget(t, c.servers[i], "early"); !errors.Is(err, state.ErrLevel) {
			t.Fatalf("with an older server as a member: %v", err)
		}
	}
	c.upgrade(t, others[0])
	refused(others[0])
	c.upgrade(t, others[1])
	refused(others[1])
	c.handTo(t, leader) // the one that is older still
	c.create(t, leader, "known")
	for _, s := range c.servers {
		until(t, s, "servers of both versions work together", func(r state.Reader) bool { return state.Len[*corev1.ConfigMap](r) == 1 })
	}
	refused(others[0])
	c.upgrade(t, leader)
	for _, s := range c.servers {
		until(t, s, "all read the newer format", reached(newerLevel))
	}
	last := c.leader(t)
	if err := writeWidget(t, c.servers[last], "late"); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.servers {
		until(t, s, "all have it", func(r state.Reader) bool { return state.Len[*widget](r) == 1 })
	}
}

// goneOver is a cluster of three servers of the next version.
func goneOver(t *testing.T) *trio {
	t.Helper()
	c := newTrio(t, map[string]string{"web.yaml": web})
	for i := range c.servers {
		c.upgrade(t, i)
	}
	for _, s := range c.servers {
		until(t, s, "all read the newer format", reached(newerLevel))
	}
	return c
}

// runAlone runs a server that is to end by itself, and returns why it did.
func (s *site) runAlone(t *testing.T) error {
	t.Helper()
	listener, err := net.Listen("tcp", s.at)
	if err != nil {
		t.Fatal(err)
	}
	running, err := newServer(t.Context(), s.config(), listener)
	if err != nil {
		return err
	}
	defer running.raft.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return running.run(ctx, listener)
}

func TestTheLevelNeverGoesDown(t *testing.T) {
	c := goneOver(t)
	leader, others := c.followers(t)
	downgraded := others[0]
	c.stop(t, downgraded)
	c.sites[downgraded].wires.schema = nil
	if err := c.sites[downgraded].runAlone(t); err == nil || !strings.Contains(err.Error(), errOlder.Error()) &&
		!strings.Contains(err.Error(), "the cluster has reached format level 2, this Mainstay knows up to 1, and what follows was written by a newer Mainstay than this one: upgrade this server") {
		t.Errorf("a server that may not be able to read what the cluster writes ended with %v", err)
	}
	c.handTo(t, others[1])
	c.handTo(t, leader)
	for _, i := range []int{leader, others[1]} {
		if got := tables.Level(c.servers[i].store.View()); got != newerLevel {
			t.Errorf("server %d is at level %d", i, got)
		}
	}
	c.sites[downgraded].wires.schema = newer()
	c.start(t, downgraded)
	until(t, c.servers[downgraded], "upgraded, it is back", func(r state.Reader) bool {
		return reached(newerLevel)(r) && voters("s1", "s2", "s3")(r)
	})
}

func TestServersOfAnOlderVersionAreNotLetIn(t *testing.T) {
	c := goneOver(t)
	leader, others := c.followers(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	old := site{
		repo: c.sites[0].repo, data: filepath.Join(t.TempDir(), "old"), name: "old", join: []string{c.sites[0].at},
		secret: c.sites[leader].token(t, join.Wanted{Role: object.RoleServer}),
	}
	if _, err := newServer(t.Context(), old.config(), listener); err == nil || !strings.Contains(err.Error(), "give it the version of the others") {
		t.Errorf("it is told %v", err)
	}
	// One that was let in before the level was raised:
	s := c.servers[others[0]]
	a := s.announcement()
	a.Level = object.Level
	if err := s.askLeader(t.Context(), pathEnlist, a, new(belonging)); !errors.Is(err, errOlder) {
		t.Errorf("it asks to be a member, and is told %v", err)
	}
}

func TestTheLevelWaitsForServersThatHaveNotSaid(t *testing.T) {
	at := func(name string, level int) *object.Server {
		return &object.Server{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: object.ServerSpec{Level: level, Pending: name == "pending"}}
	}
	for name, tc := range map[string]struct {
		servers []object.Object
		want    int
	}{
		"none":                  {nil, 0},
		"all say the same":      {[]object.Object{at("s1", 3), at("s2", 3)}, 3},
		"the lowest":            {[]object.Object{at("s1", 3), at("s2", 2)}, 2},
		"one has not said":      {[]object.Object{at("s1", 3), at("s2", 0)}, 0},
		"one that is to be one": {[]object.Object{at("s1", 3), at("pending", 2)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := common(statetest.New(t, tc.servers...).View()); got != tc.want {
				t.Errorf("level %d, want %d", got, tc.want)
			}
		})
	}
}
