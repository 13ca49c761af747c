package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// Step is one instant of bringing a commit into force, or of handing over, and what happens to a server right then.
type Step struct {
	Point string // "before" or "after" something that the server does to its log
	What  string // is done by the server to itself: kill, terminate, pause or fail, as its disk does
	Whom  Whom   // Leader or Follower
	Begin Begin
}

// Begin is what brings a server to a point.
type Begin string

const (
	Push     Begin = "push"      // a commit larger than an entry: its parts are staged, and a flip brings it into force
	Stop     Begin = "stop"      // SIGTERM while a commit is on its way: a leader hands over
	HandOver Begin = "hand over" // told to, while a commit is on its way
)

func (s Step) String() string {
	return fmt.Sprintf("%s %s of the %s, by %s", s.What, s.Point, s.Whom, s.Begin)
}

// Steps are all there are, in an order that the seed decides.
func Steps(seed uint64) []Step {
	var all []Step
	for _, when := range []string{"before ", "after "} {
		for _, doing := range []string{"append a part", "apply a part", "append a flip", "apply a flip"} {
			for _, whom := range []Whom{Leader, Follower} {
				all = append(all, Step{when + doing, "kill", whom, Push}, Step{when + doing, "pause", whom, Push})
			}
			all = append(all, Step{when + doing, "terminate", Leader, Push})
		}
		for _, what := range []string{"append a part", "append a flip"} {
			all = append(all, Step{when + what, "fail", Leader, Push}, Step{when + what, "fail", Follower, Push})
		}
		for _, begin := range []Begin{Stop, HandOver} {
			all = append(all, Step{when + "hand over", "kill", Leader, begin}, Step{when + "hand over", "pause", Leader, begin})
		}
	}
	dice := rand.New(rand.NewPCG(seed, 0))
	dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// orderVariable tells a program that is built with the tag chaos where orders are: see state/raftlog.
const orderVariable = "MAINSTAY_CHAOS_ORDER"

// order has the server do something to itself once it comes to a point.
func (s *server) order(step Step) error {
	whole := s.orders + ".new"
	if err := os.WriteFile(whole, []byte(step.Point+": "+step.What), 0o600); err != nil {
		return fmt.Errorf("order %s: %w", s.name, err)
	}
	return os.Rename(whole, s.orders)
}

// obeyed says whether the server has come to the point that it had an order for.
func (s *server) obeyed() (bool, error) {
	_, err := os.Stat(s.orders)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// takeSteps goes through steps, and again while there is time, and returns how many were taken.
func (c *cluster) takeSteps(ctx context.Context, steps []Step) (taken int, err error) {
	for ctx.Err() == nil {
		leader := c.leader(ctx)
		if leader == nil {
			sleep(ctx, lookAgain)
			continue
		}
		step := steps[taken%len(steps)]
		met, err := c.takeStep(step, leader, c.others(leader)[taken%2])
		if err != nil {
			return taken, fmt.Errorf("%s: %w", step, err)
		}
		if met {
			taken++
		}
	}
	return taken, nil
}

// takeStep brings a commit, and what the step says upon a server meanwhile. It returns once all servers are well and show the
// commit, and says whether the server came to the point: one that does not lead any more has nothing to hand over.
func (c *cluster) takeStep(step Step, leader, follower *server) (met bool, err error) {
	began, victim := c.now(), map[Whom]*server{Leader: leader, Follower: follower}[step.Whom]
	victim.remark("%s at %s", step, began)
	if err := victim.order(step); err != nil {
		return false, err
	}
	generation, err := c.push(large, manyParts)
	if err != nil {
		return false, err
	}
	over := c.begin(step, victim)
	if met, err = victim.meets(over); err != nil {
		return false, err
	}
	for _, s := range c.others(victim) {
		if err := wait(soon(), "the others go on", func() error { return c.shows(s, generation) }); err != nil {
			return false, err
		}
	}
	if err := victim.comeBack(step, met, over); err != nil {
		return false, err
	}
	err = wait(soon(), "it is back", func() error { return c.shows(victim, generation) })
	c.note("%8s to %8s  %s: %s; came there: %t", began.Round(time.Millisecond), c.now().Round(time.Millisecond), victim.name, step, met)
	return met, err
}

// meets waits until the server has come to the point that it has an order for; false if all is over without.
func (s *server) meets(over <-chan struct{}) (met bool, err error) {
	err = wait(soon(), "the order is obeyed", func() error {
		if met, err = s.obeyed(); err != nil || met {
			return err
		}
		select {
		case <-over:
			return nil
		default:
			return errors.New("it has not come to that point")
		}
	})
	if met || err != nil {
		return met, err
	}
	if err := os.Remove(s.orders); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, nil // in the last moment
}

// begin has the server do what the step begins with, beside the commit. What it returns is closed once that is over; nil if
// there is nothing but the commit.
func (c *cluster) begin(step Step, victim *server) <-chan struct{} {
	doing := map[Begin]func(){
		Stop: func() { c.check(victim.end(syscall.SIGTERM)) },
		HandOver: func() {
			bounded, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			// Who asks may never hear what came of it.
			_, _ = victim.command(bounded, "server", "transfer", "--data-dir", victim.data)
		},
	}[step.Begin]
	if doing == nil {
		return nil
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		doing()
	}()
	return over
}

// comeBack waits until the server has ended, if it is to, and undoes what was done to it.
func (s *server) comeBack(step Step, met bool, over <-chan struct{}) error {
	if met && step.What == "pause" {
		if err := s.send(syscall.SIGCONT); err != nil {
			return err
		}
	} else if met {
		if err := s.awaitEnd(step.What); err != nil {
			return err
		}
	}
	if over != nil {
		<-over
	}
	return s.revive()
}
