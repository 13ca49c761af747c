package raftlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Server is a member of the log.
type Server struct {
	ID, Address string
	member      raft.ServerID // what raft calls it; "" until it has answered
	Voter       bool
	Leader      bool
	Reached     bool   // it answered just now
	Index       uint64 // newest entry in its log; 0 if it was not reached
	Trouble     string // why it writes nothing, and what to do; empty: it can, as far as it knows
}

// ErrMajority is a change of members that was refused because the servers left could not write.
var ErrMajority = errors.New("refused: the servers that answer would not be a majority")

const (
	// reachTimeout is how long a server may take to say that it is there: longer than any pause that raft lets pass.
	reachTimeout = 2 * time.Second
	// catchUpProbe is how often a new server is asked how far it is.
	catchUpProbe = 50 * time.Millisecond
	// memberTimeout bounds how long a change of members waits for raft to take it.
	memberTimeout = 10 * time.Second
)

// Servers lists the members as this server knows them, in the order they were added, after asking each how far it is.
func (l *Log) Servers(ctx context.Context) ([]Server, error) {
	servers, err := l.Members(ctx)
	var asked sync.WaitGroup
	for i := range servers {
		asked.Go(func() { l.reach(ctx, &servers[i]) })
	}
	asked.Wait()
	return servers, err
}

// Members lists the members as this server knows them, in the order they were added; whether they answer is not asked.
func (l *Log) Members(ctx context.Context) ([]Server, error) {
	future := l.raft.GetConfiguration()
	if err := l.await(ctx, future.Error); err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	return l.listed(future.Configuration()), nil
}

func (l *Log) listed(c raft.Configuration) (servers []Server) {
	leader, _ := l.Leader()
	for _, s := range c.Servers {
		id := serverOf(s.ID)
		servers = append(servers, Server{ID: id, Address: string(s.Address), member: s.ID, Voter: s.Suffrage == raft.Voter, Leader: id == leader})
	}
	return servers
}

// reach finds out whether a server answers, by its own name, and how far it is.
func (l *Log) reach(ctx context.Context, s *Server) {
	if s.member == l.member {
		s.Reached, s.Index, s.Trouble = true, l.raft.LastIndex(), l.Trouble()
		return
	}
	if l.streams == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	a, err := l.asker.ask(ctx, s.Address, question{Ask: askProgress})
	if err != nil || a.Server != s.ID {
		return
	}
	if member := raft.ServerID(cmp.Or(a.Member, a.Server)); s.member == "" || s.member == member {
		s.member, s.Reached, s.Index, s.Trouble = member, true, a.Last, a.Trouble
	}
}

// AddVoter makes the server id, reached at address, a voter once it has the whole log. It must run already, with an empty log
// or with this one. Only the leader can; ErrMajority if the cluster could stop writing by it. If ctx ends before the server has
// caught up, it stays a member without a vote: call again, or remove it.
func (l *Log) AddVoter(ctx context.Context, id, address string) error {
	added := Server{ID: id, Address: address, Voter: true}
	servers, err := l.introduce(ctx, &added)
	if err != nil {
		return fmt.Errorf("add server %s at %s: %w", id, address, err)
	}
	if i := slices.IndexFunc(servers, func(s Server) bool { return s.member == added.member && s.Voter }); i >= 0 && servers[i].Address == address {
		return nil
	}
	if err := l.caughtUp(ctx, added); err != nil {
		return fmt.Errorf("add server %s at %s: wait until it has the log: %w", id, address, err)
	}
	if err := l.promote(ctx, added); err != nil {
		return fmt.Errorf("give server %s a vote: %w", id, err)
	}
	return nil
}

// promote gives a member a vote. Others may have gone since it was introduced.
func (l *Log) promote(ctx context.Context, s Server) error {
	release, err := l.changeMembers(ctx)
	if err != nil {
		return err
	}
	defer release()
	servers, err := l.Servers(ctx)
	if err != nil {
		return err
	}
	if err := mayAdd(servers, s); err != nil {
		return err
	}
	return l.change(l.raft.AddVoter(s.member, raft.ServerAddress(s.Address), 0, memberTimeout))
}

// AddNonvoter makes the server id a member that has everything and decides nothing. Only the leader can.
func (l *Log) AddNonvoter(ctx context.Context, id, address string) error {
	if _, err := l.introduce(ctx, &Server{ID: id, Address: address}); err != nil {
		return fmt.Errorf("add server %s at %s: %w", id, address, err)
	}
	return nil
}

// introduce adds a server without a vote, unless it is a member; it returns the members before that. One that comes with another
// log than it had takes the place of its earlier self.
func (l *Log) introduce(ctx context.Context, added *Server) ([]Server, error) {
	release, err := l.changeMembers(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := l.correctAddress(ctx); err != nil {
		return nil, err
	}
	servers, err := l.Servers(ctx)
	if err != nil {
		return nil, err
	}
	l.reach(ctx, added)
	if err := mayAdd(servers, *added); err != nil {
		return nil, err
	}
	earlier := slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return s.ID != added.ID || s.member == added.member })
	if len(earlier) > 0 {
		if err := l.replace(earlier, added.member); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(servers, func(s Server) bool { return s.member == added.member && s.Address == added.Address }) {
		return servers, nil
	}
	return servers, l.change(l.raft.AddNonvoter(added.member, raft.ServerAddress(added.Address), 0, memberTimeout))
}

// correctAddress makes the members know this leader by the address it has now: a server that was alone may have had none.
func (l *Log) correctAddress(ctx context.Context) error {
	servers, err := l.Members(ctx)
	if err != nil || l.streams == nil {
		return err
	}
	self := l.streams.address.String()
	if !slices.ContainsFunc(servers, func(s Server) bool { return s.ID == l.id && s.Voter && s.Address != self }) {
		return nil
	}
	return l.change(l.raft.AddVoter(l.member, raft.ServerAddress(self), 0, memberTimeout))
}

// caughtUp returns once a server has every entry that this leader had when it was called.
func (l *Log) caughtUp(ctx context.Context, s Server) error {
	target := l.raft.LastIndex()
	for {
		if l.reach(ctx, &s); s.Reached && s.Index >= target {
			return nil
		}
		select {
		case <-time.After(catchUpProbe):
		case <-l.failure.done:
			return l.failure.cause
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// RemoveServer takes a server out of the cluster, for good: its directory is of no more use. Only the leader can, and not
// itself. ErrMajority if the servers left could not write.
func (l *Log) RemoveServer(ctx context.Context, id string) error {
	release, err := l.changeMembers(ctx)
	if err != nil {
		return fmt.Errorf("remove server %s: %w", id, err)
	}
	defer release()
	servers, err := l.Servers(ctx)
	if err == nil {
		err = mayRemove(servers, id)
	}
	for _, s := range servers {
		if err == nil && s.ID == id { // two while its earlier self is being replaced
			err = l.change(l.raft.RemoveServer(s.member, 0, memberTimeout))
		}
	}
	if err != nil {
		return fmt.Errorf("remove server %s: %w", id, err)
	}
	return nil
}

// changeMembers waits for its turn: from when the members are looked at until what is done to them is in force, nobody else
// changes them. Each of two changes may be fine that are not fine together, and raft itself knows no index of the members to
// insist on. What takes long, such as a new server that gets the log, is not waited for in between.
func (l *Log) changeMembers(ctx context.Context) (release func(), err error) {
	select {
	case l.changing <- struct{}{}:
		return func() { <-l.changing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// change returns once raft has taken a change or refused it, which whoever asked for it cannot cut short: the next one who
// looks at the members is to see it.
func (l *Log) change(future raft.IndexFuture) error {
	if err := l.await(context.Background(), future.Error); err != nil {
		return outcome(err)
	}
	return nil
}

// mayAdd refuses a server that nobody would reach: with it, a cluster of one would never write again.
func mayAdd(servers []Server, added Server) error {
	if !added.Reached {
		return errors.New("it does not answer there, by this name: start it first, and check its --advertise")
	}
	for _, s := range servers {
		if s.ID != added.ID && s.Address == added.Address {
			return fmt.Errorf("server %s is at this address already: remove it first", s.ID)
		}
		if s.ID == added.ID && s.member == added.member && s.Voter && !added.Voter {
			return errors.New("it has a vote: remove it first")
		}
		if s.ID == added.ID && s.Address != added.Address && s.Reached {
			return fmt.Errorf("a server of this name answers at %s: give every server a name of its own", s.Address)
		}
	}
	others := slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return s.ID == added.ID })
	if slices.ContainsFunc(servers, func(s Server) bool { return s.ID == added.ID && s.member != added.member && s.Voter }) {
		if err := majority(others); err != nil { // They go on without its earlier self first.
			return err
		}
	}
	if !added.Voter {
		return nil
	}
	return majority(append(others, added))
}

// mayRemove refuses to remove a server without which the others could not write.
func mayRemove(servers []Server, id string) error {
	i := slices.IndexFunc(servers, func(s Server) bool { return s.ID == id })
	switch {
	case i < 0:
		return errors.New("there is no such server")
	case servers[i].Leader:
		return errors.New("it leads: hand over to another server first, by `mainstay server transfer`")
	}
	return majority(slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return s.ID == id }))
}

// majority checks that enough voters answer for these servers to write.
func majority(servers []Server) error {
	voters, reached := 0, 0
	for _, s := range servers {
		if s.Voter {
			voters++
			if s.Reached {
				reached++
			}
		}
	}
	if needed := voters/2 + 1; reached < needed {
		return fmt.Errorf("%w: %d of %d voters answer, %d are needed; bring the others back first", ErrMajority, reached, voters, needed)
	}
	return nil
}
