package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// hurt does a fault to a server, and returns what undoes it.
func (c *cluster) hurt(f Fault, victim *server) (heal func() error, err error) {
	dice := rand.New(rand.NewPCG(f.Dice, 0))
	switch f.Kind {
	case Kill:
		return victim.start, victim.end(syscall.SIGKILL)
	case Terminate:
		return victim.start, victim.end(syscall.SIGTERM)
	case Pause:
		return func() error { return victim.send(syscall.SIGCONT) }, victim.send(syscall.SIGSTOP)
	case Isolate:
		return c.cut(victim, c.others(victim), "saddr", "daddr")
	case Deaf:
		return c.cut(victim, c.others(victim), "saddr")
	case Mute:
		return c.cut(victim, c.others(victim), "daddr")
	case Split:
		others := c.others(victim)
		return c.cut(victim, others[dice.IntN(len(others)):][:1], "saddr", "daddr")
	case Full:
		return victim.fill()
	case Damage:
		err := victim.end(syscall.SIGKILL)
		return func() error { return victim.returnDamaged(dice) }, err
	case Fail:
		return victim.takeBack, victim.order(Step{Point: "before append a batch", What: "fail"})
	case Shut:
		return victim.block(fmt.Sprintf("add rule ip %s in tcp dport 7443 tcp flags & (syn|ack) == syn drop", table))
	case Transfer:
		// It is refused where there is nobody to hand over to; nothing is lost by that.
		_, _ = victim.command(context.Background(), "server", "transfer", "--data-dir", victim.data)
		return func() error { return nil }, nil
	case Crash:
		return c.crash()
	}
	return nil, fmt.Errorf("nobody knows how to %s a server", f.Kind)
}

func (c *cluster) others(than *server) []*server {
	return slices.DeleteFunc(slices.Clone(c.servers), func(s *server) bool { return s == than })
}

// table is the name of the firewall table that cuts a host off: of this package alone.
const table = "chaos"

// cut has a server's host drop what it gets from others, matched by saddr, or what it sends to them, by daddr.
func (c *cluster) cut(victim *server, from []*server, matches ...string) (heal func() error, err error) {
	var rules []string
	for _, match := range matches {
		chain := map[string]string{"saddr": "in", "daddr": "out"}[match]
		for _, other := range from {
			rules = append(rules, fmt.Sprintf("add rule ip %s %s ip %s %s drop", table, chain, match, other.host.IP))
		}
	}
	return victim.block(rules...)
}

// block puts rules into the chains in and out of the server's host.
func (s *server) block(rules ...string) (heal func() error, err error) {
	chains := []string{"add table ip " + table}
	for _, name := range []string{"in", "out"} {
		chains = append(chains, fmt.Sprintf("add chain ip %s %s { type filter hook %sput priority -500; }", table, name, name))
	}
	return func() error { return s.run("nft", "delete table ip "+table) }, s.run("nft", strings.Join(append(chains, rules...), "; "))
}

// filling is how often a disk is made as small as what is on it, before that counts as impossible.
const filling = 20

// fill leaves no page on the server's disk.
func (s *server) fill() (heal func() error, err error) {
	for range filling { // it may be writing
		var used uint64
		if used, err = s.used(); err != nil {
			break
		}
		if err = s.resize(used); err == nil {
			break
		}
	}
	return func() error {
		if err := s.resize(diskSize); err != nil {
			return err
		}
		return s.revive()
	}, err
}

// takeBack undoes an order. A server that obeyed it ends for it, and is started again.
func (s *server) takeBack() error {
	err := os.Remove(s.orders)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.awaitEnd("its disk failed")
	}
	return errors.Join(err, s.revive())
}

// revive starts a server that ended for what was done to it, as a service manager would.
func (s *server) revive() error {
	s.forgive()
	return s.start()
}

// damages are what may become of a file.
var damages = []func(dice *rand.Rand, path string, size int64) error{
	func(_ *rand.Rand, path string, _ int64) error { return os.Truncate(path, 0) },
	func(dice *rand.Rand, path string, size int64) error { return os.Truncate(path, dice.Int64N(size)) },
	flip,
}

// flip turns bits over all the file, enough of them to meet something that is read.
func flip(dice *rand.Rand, path string, size int64) error {
	const bits = 64
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	for range bits {
		at := dice.Int64N(size)
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		b[0] ^= 1 << dice.IntN(8)
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}

// returnDamaged damages a file of a log that nobody uses, and starts the server. It returns once the server votes again: until
// then its disk counts as lost, and no majority of disks may be.
func (s *server) returnDamaged(dice *rand.Rand) error {
	files := []string{filepath.Join(s.data, "raft", "raft.db")}
	snapshots, err := filepath.Glob(filepath.Join(s.data, "raft", "snapshots", "*", "state.bin"))
	if err != nil {
		return err
	}
	files = append(files, snapshots...)
	path := files[dice.IntN(len(files))]
	info, err := os.Stat(path)
	if err == nil {
		how := dice.IntN(len(damages))
		s.remark("%s of %s, which has %d bytes", []string{"all is cut", "the end is cut", "bits are flipped"}[how], path, info.Size())
		err = damages[how](dice, path, info.Size())
	}
	if err != nil {
		return fmt.Errorf("damage %s: %w", path, err)
	}
	return wait(soon(), "server "+s.name+" votes again", func() error {
		if err := s.revive(); err != nil {
			return err
		}
		return s.votes()
	})
}

// votes is an error unless the server is a voter by what it knows itself.
func (s *server) votes() error {
	out, err := s.command(context.Background(), "server", "list", "-o", "json", "--data-dir", s.data)
	if err != nil {
		return err
	}
	var list []struct{ Name, Role string }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return fmt.Errorf("server list on %s: %w: %s", s.name, err, out)
	}
	for _, member := range list {
		if member.Name == s.name && member.Role == "Voter" {
			return nil
		}
	}
	return fmt.Errorf("server %s is no voter: %s", s.name, out)
}

// crash kills all servers.
func (c *cluster) crash() (heal func() error, err error) {
	each := func(do func(*server) error) error {
		var errs []error
		for _, s := range c.servers {
			errs = append(errs, do(s))
		}
		return errors.Join(errs...)
	}
	return func() error { return each((*server).start) }, each(func(s *server) error { return s.end(syscall.SIGKILL) })
}

// lane does what a schedule says until ctx ends; what was begun is undone. Nobody but it hurts or heals the servers it has taken.
func (c *cluster) lane(ctx context.Context, schedule []Fault) error {
	for _, f := range schedule {
		if !sleep(ctx, f.Rest) {
			return nil
		}
		victims := c.take(c.leader(ctx), f)
		if len(victims) == 0 {
			continue
		}
		err := c.inflict(ctx, f, victims[0])
		c.giveBack(victims)
		if err != nil {
			return err
		}
	}
	return nil
}

// inflict does a fault and undoes it.
func (c *cluster) inflict(ctx context.Context, f Fault, victim *server) error {
	began := c.now()
	victim.remark("%s at %s for %s", f.Kind, began, f.Hold)
	heal, err := c.hurt(f, victim)
	if err != nil {
		return fmt.Errorf("%s %s: %w", f.Kind, victim.name, err)
	}
	sleep(ctx, f.Hold)
	if err := heal(); err != nil {
		return fmt.Errorf("undo %s of %s: %w", f.Kind, victim.name, err)
	}
	c.note("%8s to %8s  %s %s, chosen as %s", began.Round(time.Millisecond), c.now().Round(time.Millisecond), f.Kind, victim.name, f.Whom)
	c.count(f.Kind)
	return nil
}

// sleep is whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
