package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/testhost"
)

// Options say what is to be run. The seed decides what is pushed, what clients do and who is hurt how and when, as far as that
// does not hang on who leads; what the processes make of it differs from run to run.
type Options struct {
	Servers int
	Seed    uint64
	For     time.Duration
}

// program is what is hurt.
const program = "github.com/mainstay-cluster/mainstay/cmd/mainstay"

// Run hurts as many servers at a time as may be lost, each by a schedule of its own, and fails the test if any client saw what
// it may not have seen, or if not all is well once nobody hurts them any more.
func Run(t testing.TB, o Options) {
	t.Helper()
	c := newAttended(t, o)
	var lanes []func(context.Context) error
	for lane := range uint64(o.Servers-1) / 2 {
		schedule := Schedule(o.Seed, lane, o.For)
		lanes = append(lanes, func(ctx context.Context) error { return c.lane(ctx, schedule) })
	}
	c.attend(o, append(lanes, c.pushes)...)
	c.check(c.verdict())
}

// KillLeaders kills the leader in the middle of one activation after another, as often as told or as there is time for, and
// fails the test as Run does, and if anybody is shown anything but the last commit or the one before. It returns the kills.
func KillLeaders(t testing.TB, o Options, kills int) int {
	t.Helper()
	c := newAttended(t, o)
	var s struck
	c.attend(o, func(ctx context.Context) (err error) {
		s, err = c.killLeaders(ctx, kills)
		return err
	})
	if slices.Sort(s.took); len(s.took) > 0 {
		t.Logf("%d leaders killed, %d of them before the commit was in force; it was after %s (median), %s (longest)",
			len(s.took), s.midways, s.took[len(s.took)/2].Round(time.Millisecond), s.took[len(s.took)-1].Round(time.Millisecond))
	}
	c.check(errors.Join(c.verdict(), c.history.Adjacent()))
	return len(s.took)
}

// TakeSteps has something happen to a server at each instant of bringing a commit into force and of handing over, in an order
// that the seed decides and as far as there is time, and fails the test as KillLeaders does. It returns how many instants were met.
func TakeSteps(t testing.TB, o Options) int {
	t.Helper()
	c, steps, taken := newAttended(t, o), Steps(o.Seed), 0
	c.attend(o, func(ctx context.Context) (err error) {
		taken, err = c.takeSteps(ctx, steps)
		return err
	})
	t.Logf("%d steps taken, there are %d", taken, len(steps))
	c.check(errors.Join(c.verdict(), c.history.Adjacent()))
	return taken
}

// newAttended makes a cluster whose logs and record are kept if the test fails.
func newAttended(t testing.TB, o Options) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "mainstay-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d servers for %s, seed %d; logs and record are in %s if this fails", o.Servers, o.For, o.Seed, dir)
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	return newCluster(t, o.Servers, testhost.GoBinary(t, program, "-tags", "chaos"), dir, o.Seed)
}

// attend has clients look on while something is done for a time, and until all is well again afterwards.
func (c *cluster) attend(o Options, doing ...func(context.Context) error) {
	c.eventually("all Pods run", c.nodes.complete)
	before := c.nodes.running()
	looking, stop := context.WithCancel(context.Background())
	clients := c.newClients(o.Seed)
	clients.begin(looking)

	// Who interrupts a long run wants to know what came of it so far.
	interrupted, ignore := signal.NotifyContext(context.Background(), os.Interrupt)
	defer ignore()
	ctx, cancel := context.WithTimeout(interrupted, o.For)
	g, ctx := errgroup.WithContext(ctx)
	for _, do := range doing {
		g.Go(func() error { return do(ctx) })
	}
	err := g.Wait()
	cancel()

	err = errors.Join(err, c.recover(clients))
	stop()
	clients.end(c)
	err = errors.Join(err, c.final()) // nobody makes tokens any more
	if after := c.nodes.running(); !slices.Equal(before, after) {
		err = errors.Join(err, fmt.Errorf("P4, P5: Pods were replaced though no commit changed them: %v ran, now %v do", before, after))
	}
	c.check(err)
	for _, s := range c.servers {
		for _, death := range s.deaths {
			c.t.Error(death)
		}
	}
	c.report(clients)
}

// recover waits until all is well: a last commit is in force everywhere and all that hangs on it done, and every client knows.
// What can still be seen is recorded, also if something is not well.
func (c *cluster) recover(clients *clients) error {
	var errs []error
	deadline := soon()
	for _, s := range c.servers {
		errs = append(errs, s.start())
	}
	generation, err := c.push(small, fewParts)
	errs = append(errs, err)
	for _, s := range c.servers {
		errs = append(errs, wait(deadline, "server "+s.name+" shows the last commit", func() error { return c.shows(s, generation) }))
	}
	errs = append(errs, wait(deadline, "the last commit has converged", c.converged))
	for _, w := range clients.watchers {
		errs = append(errs, wait(deadline, w.name+" was told what is there", func() error { return w.settle(c.servers[0]) }))
	}
	return errors.Join(errs...)
}

// converged is an error unless the newest commit is said to be carried out.
func (c *cluster) converged() error {
	var revision struct{ Status struct{ Phase string } }
	const nameLength = 12
	head, err := c.repo.head()
	if err == nil {
		err = c.asker.get(context.Background(), c.servers[0], "/apis/mainstay.dev/v1alpha1/revisions/"+head[:nameLength], &revision)
	}
	if err == nil && revision.Status.Phase != "Converged" {
		err = errors.New("it is " + revision.Status.Phase)
	}
	return err
}

// middle is the longest that a leader lives after a push, in halvings: an activation takes milliseconds or a tenth of a second.
const middle = 128 * time.Millisecond

// struck is what became of killed leaders.
type struck struct {
	took    []time.Duration // from each kill until the commit that was on its way was in force elsewhere
	midways int             // of them, where it was not yet
}

// killLeaders kills a leader after each push.
func (c *cluster) killLeaders(ctx context.Context, kills int) (s struck, err error) {
	dice := rand.New(rand.NewPCG(c.repo.dice.Uint64(), 0))
	for len(s.took) < kills && ctx.Err() == nil {
		if leader := c.leader(ctx); leader == nil {
			sleep(ctx, lookAgain)
		} else if err := c.killMidway(leader, dice, &s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// killMidway pushes a commit, kills the leader at some instant of the activation, and waits until all is as before.
func (c *cluster) killMidway(leader *server, dice *rand.Rand, s *struck) error {
	kind := []change{small, large}[dice.IntN(2)]
	generation, err := c.push(kind, fewParts+dice.IntN(manyParts))
	if err != nil {
		return err
	}
	const halvings = 8
	time.Sleep(upTo(dice, middle>>dice.IntN(halvings))) // an instant of the activation, not a wait for it
	if err := leader.end(syscall.SIGKILL); err != nil {
		return err
	}
	at, other := time.Now(), c.others(leader)[0]
	if c.shows(other, generation) != nil {
		s.midways++
	}
	if err := wait(soon(), "the commit is in force without its leader", func() error { return c.shows(other, generation) }); err != nil {
		return err
	}
	s.took = append(s.took, time.Since(at))
	c.count(Kill)
	if err := leader.start(); err != nil {
		return err
	}
	for _, s := range c.servers {
		if err := wait(soon(), "all servers show the commit", func() error { return c.shows(s, generation) }); err != nil {
			return err
		}
	}
	return nil
}
