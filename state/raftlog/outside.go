package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose port is dead goes on leading: raft's messages travel on connections that it made itself. Agents and readers
// would look for it in vain. So it has the other voters try, afresh, and hands over if for some time none of them got through.

const (
	// outsideEvery is how often a leader asks whether it is reached, in units of patience.
	outsideEvery = 4
	// outsideMisses is how many times in a row nobody got through before it hands over: once may be a port that is busy.
	outsideMisses = 3
)

// vigil counts how often in a row nobody reached this leader.
type vigil struct{ misses int }

// see notes what the others said, and says whether it is time to go. Where nobody said anything nothing is known: the lease
// tells whether this server may lead at all.
func (v *vigil) see(reached, unreached int) bool {
	if v.misses++; reached > 0 || unreached == 0 {
		v.misses = 0
	}
	if v.misses < outsideMisses {
		return false
	}
	v.misses = 0
	return true
}

// watchOutside looks after this server's port as long as it leads, until ctx ends.
func (l *Log) watchOutside(ctx context.Context, every time.Duration) {
	watch := &vigil{}
	for {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
		if l.raft.State() != raft.Leader {
			watch.misses = 0
			continue
		}
		if !watch.see(l.outside(ctx)) || ctx.Err() != nil {
			continue
		}
		if err := l.stepAside(ctx); err != nil {
			l.log.Error("no other server reaches this leader at its address: check --advertise, the listener and the firewall",
				"address", l.streams.address.String(), "stays", err)
		}
	}
}

// outside counts the other voters that reach this server afresh, and those that do not. Who does not answer is neither.
func (l *Log) outside(ctx context.Context) (reached, unreached int) {
	voters, err := l.otherVoters(ctx)
	if err != nil {
		return 0, 0
	}
	for _, said := range l.allReach(ctx, voters, Server{ID: l.id, Address: l.streams.address.String()}) {
		switch {
		case said == nil:
			reached++
		case errors.Is(said, errUnreached):
			unreached++
		}
	}
	return reached, unreached
}

// stepAside hands over to a voter that is better off: reached afresh itself, and reaching enough others to be elected.
func (l *Log) stepAside(ctx context.Context) error {
	voters, err := l.otherVoters(ctx)
	if err != nil {
		return err
	}
	for _, heir := range voters {
		if l.reachAfresh(ctx, heir) != nil {
			continue
		}
		votes := 1
		for _, other := range voters {
			if other.member != heir.member && l.askReach(ctx, heir, other) == nil {
				votes++
			}
		}
		if votes < (len(voters)+1)/2+1 {
			continue
		}
		l.log.Warn("no other server reaches this leader at its address: handing over", "address", l.streams.address.String(), "to", heir.ID)
		return l.transfer(ctx, heir)
	}
	return ErrNoHeir
}

func (l *Log) otherVoters(ctx context.Context) ([]Server, error) {
	servers, err := l.Members(ctx)
	return slices.DeleteFunc(servers, func(s Server) bool { return !s.Voter || s.member == l.member }), err
}

// errUnreached is what a server says that tried to reach another in vain.
var errUnreached = errors.New("not reached")

// allReach asks each of servers whether it reaches another.
func (l *Log) allReach(ctx context.Context, servers []Server, other Server) []error {
	said := make([]error, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		asked.Go(func() { said[i] = l.askReach(ctx, s, other) })
	}
	asked.Wait()
	return said
}

// askReach asks a server whether it reaches another; errUnreached if it says no, another error if it does not say.
func (l *Log) askReach(ctx context.Context, server, other Server) error {
	ctx, cancel := context.WithTimeout(ctx, 2*reachTimeout)
	defer cancel()
	a, err := l.asker.ask(ctx, server.Address, question{Ask: askReach, Server: other.ID, Address: other.Address})
	switch {
	case err != nil:
		return err
	case a.Error != "":
		return errors.New(a.Error)
	case a.Unreached != "":
		return fmt.Errorf("%w: server %s says: %s", errUnreached, a.Server, a.Unreached)
	}
	return nil
}

// reachAfresh tries to reach a server by a connection of its own: one that is there proves nothing of the port.
func (l *Log) reachAfresh(ctx context.Context, s Server) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	conn, err := l.streams.connect(ctx, AskProtocol, s.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	a, err := converse(ctx, conn, question{Ask: askProgress})
	if err == nil && a.Server != s.ID {
		err = fmt.Errorf("server %s answers there", a.Server)
	}
	return err
}
