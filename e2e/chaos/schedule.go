// Package chaos hurts real servers at random while commits are pushed and clients read, watch and join, and has everything that
// they saw judged by history. It needs root, for the servers are processes on hosts of their own. Start at Run.
package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Kind is what is done to a server.
type Kind string

const (
	Kill      Kind = "kill"      // SIGKILL; started again
	Terminate Kind = "terminate" // SIGTERM, as at every upgrade; started again
	Pause     Kind = "pause"     // SIGSTOP, later SIGCONT: it comes back and knows nothing of the time that passed
	Isolate   Kind = "isolate"   // neither hears nor is heard by the other servers; clients reach it
	Deaf      Kind = "deaf"      // does not hear the other servers
	Mute      Kind = "mute"      // is not heard by the other servers
	Split     Kind = "split"     // it and one other do not hear each other; the rest hear both
	Shut      Kind = "shut"      // nobody reaches it any more by new connections; those there are go on
	Transfer  Kind = "transfer"  // told to hand over
	Full      Kind = "full"      // not one page is left on its disk
	Damage    Kind = "damage"    // killed, and a file of its log is cut or has bits flipped when it starts again
	Fail      Kind = "fail"      // its disk answers the next write with EIO: it ends by itself, and is started again
	Crash     Kind = "crash"     // all servers are killed at once: more than a minority, but all disks survive
)

// Whom is who is hurt, as far as that is known beforehand.
type Whom string

const (
	Leader   Whom = "leader"
	Follower Whom = "follower"
	Anyone   Whom = "anyone"
)

// Fault is one thing that is done and undone.
type Fault struct {
	Rest time.Duration // since the last one was undone
	Kind Kind
	Whom Whom
	Hold time.Duration // until it is undone
	Dice uint64        // decides what Kind and Whom leave open
}

func (f Fault) String() string {
	return fmt.Sprintf("after %s: %s %s for %s (%x)", f.Rest, f.Kind, f.Whom, f.Hold, f.Dice)
}

// menu is how often each kind is chosen, and for how long it holds at most.
var menu = []struct {
	kind   Kind
	weight int
	hold   time.Duration
}{
	{Kill, 6, 2 * time.Second},
	{Terminate, 3, time.Second},
	{Pause, 5, 6 * time.Second},
	{Isolate, 4, 5 * time.Second},
	{Deaf, 3, 5 * time.Second},
	{Mute, 3, 5 * time.Second},
	{Split, 3, 5 * time.Second},
	{Shut, 3, 5 * time.Second},
	{Transfer, 2, 200 * time.Millisecond},
	{Full, 2, 4 * time.Second},
	{Damage, 4, time.Second},
	{Fail, 3, time.Second},
	{Crash, 1, time.Second},
}

const (
	// maxRest is long enough for an election, so that half of the faults meet a cluster that is well.
	maxRest = 2500 * time.Millisecond
	minHold = 100 * time.Millisecond
)

// Schedule is what is done one after another within a time. The same seed, lane and time give the same; lanes are what is
// done side by side.
func Schedule(seed, lane uint64, within time.Duration) []Fault {
	dice := rand.New(rand.NewPCG(seed, lane))
	var all []Fault
	for {
		f := next(dice)
		if within -= f.Rest + f.Hold; within < 0 {
			return all
		}
		all = append(all, f)
	}
}

func next(dice *rand.Rand) Fault {
	total := 0
	for _, m := range menu {
		total += m.weight
	}
	f := Fault{Rest: upTo(dice, maxRest).Round(time.Millisecond), Dice: dice.Uint64()}
	roll := dice.IntN(total)
	for _, m := range menu {
		if roll -= m.weight; roll < 0 {
			f.Kind, f.Hold = m.kind, (minHold + upTo(dice, m.hold)).Round(time.Millisecond)
			break
		}
	}
	// Leaders are where the bugs are.
	f.Whom = []Whom{Leader, Leader, Leader, Follower, Anyone}[dice.IntN(5)]
	return f
}

// upTo is a time below a bound.
func upTo(dice *rand.Rand, bound time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(bound)))
}
