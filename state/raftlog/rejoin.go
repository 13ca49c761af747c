package raftlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// rejoinPause is how often a server that lost its log asks to be a member again.
	rejoinPause = 500 * time.Millisecond
	// rejoinReport is how often it says that it still waits.
	rejoinReport = 10 * time.Second
)

// comeBack makes this server, which lost its log, a member again.
func (l *Log) comeBack(ctx context.Context) {
	began, reported := time.Now(), time.Time{}
	for !l.isBack() {
		err := l.askBack(ctx)
		if err != nil && ctx.Err() == nil && time.Since(reported) > rejoinReport {
			reported = time.Now()
			l.log.Warn("this server has lost its log and is not a member yet: trying on", "err", err)
		}
		select {
		case <-time.After(rejoinPause):
		case <-ctx.Done():
			return
		}
	}
	l.disk.identity.found()
	l.noteMembers()
	l.log.Info("this server has everything again, and is a member as before", "took", time.Since(began))
}

// isBack says whether this server is, in its own log, what it was before it lost it.
func (l *Log) isBack() bool {
	suffrage, member := l.suffrage()
	return member && (suffrage == raft.Voter || !l.disk.identity.now().Voter)
}

// suffrage is what this server may do by the newest configuration in its log.
func (l *Log) suffrage() (s raft.ServerSuffrage, member bool) {
	servers := l.raft.GetConfiguration().Configuration().Servers
	i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == l.member })
	if i < 0 {
		return raft.Nonvoter, false
	}
	return servers[i].Suffrage, true
}

// askBack asks each of the servers that there were: one of them leads, or will.
func (l *Log) askBack(ctx context.Context) error {
	was := l.disk.identity.now()
	q := question{Ask: askRejoin, Server: l.id, Address: l.streams.address.String(), Voter: was.Voter}
	err := errors.New("no other server is known")
	for _, p := range was.Peers {
		asking, cancel := context.WithTimeout(ctx, answerTimeout+reachTimeout)
		a, failed := l.asker.ask(asking, p.Address, q)
		cancel()
		switch {
		case failed != nil:
			err = failed
		case a.Error == "":
			return nil
		case !a.NotLeader:
			return fmt.Errorf("server %s says: %s", a.Server, a.Error)
		default:
			err = fmt.Errorf("no server leads, as far as server %s knows", a.Server)
		}
	}
	return err
}

// readmit makes the server that asks, which lost its log, a member again under its name.
func (l *Log) readmit(ctx context.Context, asker net.Conn, q question) error {
	if l.raft.State() != raft.Leader {
		return state.ErrNotLeader
	}
	if name := certified(asker); name != "" && name != q.Server {
		return fmt.Errorf("this connection is of server %s, not of %s", name, q.Server)
	}
	servers, err := l.Members(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(servers, func(s Server) bool { return s.ID == q.Server }) {
		return fmt.Errorf("server %s is not a member: it was removed; add it by a token, in an empty data directory", q.Server)
	}
	if q.Voter {
		return l.AddVoter(ctx, q.Server, q.Address)
	}
	return l.AddNonvoter(ctx, q.Server, q.Address)
}

// certified is the name in the certificate of who is at the other end; "" if the connection shows none.
func certified(conn net.Conn) string {
	if s, ok := conn.(*stream); ok {
		conn = s.Conn
	}
	secure, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return ""
	}
	certs := secure.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return ""
	}
	return certs[0].Subject.CommonName
}

// replace removes the earlier members of a server, which have lost their logs, after taking their votes: nobody counts on
// them when the next one comes. That one is a member before they go, so that whoever leads then knows the server's name.
func (l *Log) replace(earlier []Server, next raft.ServerID) error {
	for _, e := range earlier {
		if !e.Voter {
			continue
		}
		if err := l.change(l.raft.DemoteVoter(e.member, 0, memberTimeout)); err != nil {
			return err
		}
	}
	// Raft allows no two members at one address, and does not like a member that is reached to change its.
	if err := l.change(l.raft.AddNonvoter(next, nowhere(next), 0, memberTimeout)); err != nil {
		return err
	}
	for _, e := range earlier {
		if err := l.change(l.raft.RemoveServer(e.member, 0, memberTimeout)); err != nil {
			return err
		}
	}
	return nil
}

// nowhere is an address where nobody is, different for each member: raft wants that.
func nowhere(member raft.ServerID) raft.ServerAddress {
	return raft.ServerAddress("lost " + string(member) + ":0")
}

// noteMembers keeps the names and addresses of the others where damage to the log does not reach.
func (l *Log) noteMembers() {
	suffrage, member := l.suffrage()
	if !member || l.disk.identity.now().Lost {
		return
	}
	var peers []peer
	for _, s := range l.raft.GetConfiguration().Configuration().Servers {
		if s.ID != l.member && s.Address != nowhere(s.ID) {
			peers = append(peers, peer{Server: serverOf(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
		}
	}
	l.disk.identity.members(suffrage == raft.Voter, peers)
}

// noteMembersLong does so whenever the members change, until ctx ends.
func (l *Log) noteMembersLong(ctx context.Context) {
	for {
		l.noteMembers()
		select {
		case <-l.fsm.members:
		case <-ctx.Done():
			return
		}
	}
}
