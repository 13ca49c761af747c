package raftlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/state"
)

// What one server may ask another about the log itself. An unknown question is answered with an error, so that servers of
// different versions understand each other.
const (
	askReadIndex = "readIndex" // of the leader: see Log.ReadIndex
	askProgress  = "progress"  // how far its log has come
	askReach     = "reach"     // whether it reaches another server by a new connection
	askRejoin    = "rejoin"    // of the leader: to make the server that asks, which lost its log, a member again
)

type question struct {
	Ask     string `json:"ask"`
	Server  string `json:"server,omitempty"`  // whom it is about: who asks, or another
	Address string `json:"address,omitempty"` // where that is reached
	Voter   bool   `json:"voter,omitempty"`   // it had a vote
}

type answer struct {
	Server    string `json:"server"`              // who answers
	Member    string `json:"member,omitempty"`    // what raft calls it
	Last      uint64 `json:"last,omitempty"`      // newest entry in its log
	Trouble   string `json:"trouble,omitempty"`   // why it writes nothing
	Index     uint64 `json:"index,omitempty"`     // what ReadIndex returned
	Unreached string `json:"unreached,omitempty"` // why the other server was not reached
	NotLeader bool   `json:"notLeader,omitempty"` // it does not lead, so it cannot tell
	Error     string `json:"error,omitempty"`
}

// answerTimeout bounds the work on one answer: a leader that cannot reach its followers for that long steps down anyway.
const answerTimeout = 5 * time.Second

// answerAll answers the questions of other servers until ctx ends.
func (l *Log) answerAll(ctx context.Context) {
	for {
		select {
		case conn := <-l.streams.asking:
			l.owned.Go(func() { l.converse(ctx, conn) })
		case <-ctx.Done():
			return
		}
	}
}

// converse answers one question after the other, until the other side hangs up or ctx ends.
func (l *Log) converse(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	questions, answers := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var q question
		if questions.Decode(&q) != nil || answers.Encode(l.answer(ctx, conn, q)) != nil {
			return
		}
	}
}

func (l *Log) answer(ctx context.Context, asker net.Conn, q question) answer {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	a := answer{Server: l.id, Member: string(l.member)}
	var err error
	switch q.Ask {
	case askProgress:
		a.Last, a.Trouble = l.raft.LastIndex(), l.Trouble()
	case askReadIndex:
		a.Index, err = l.readIndexHere(ctx)
	case askReach:
		if failed := l.reachAfresh(ctx, Server{ID: q.Server, Address: q.Address}); failed != nil {
			a.Unreached = failed.Error()
		}
	case askRejoin:
		err = l.readmit(ctx, asker, q)
	default:
		err = fmt.Errorf("this server does not know the question %q: give all servers the same version", q.Ask)
	}
	if err != nil {
		a.Error, a.NotLeader = err.Error(), errors.Is(err, state.ErrNotLeader)
	}
	return a
}

// asker keeps connections on which questions are asked. It is safe for concurrent use.
type asker struct {
	streams *Streams

	mu   sync.Mutex
	idle map[string][]net.Conn // by address; guarded by mu
}

// idleAskers bounds the idle connections per server: more readers than that at one moment open their own.
const idleAskers = 8

// ask puts one question to the server at address. A connection that was idle may have died unnoticed: then a new one is tried.
func (k *asker) ask(ctx context.Context, address string, q question) (answer, error) {
	for {
		conn, fresh, err := k.connect(ctx, address)
		if err != nil {
			return answer{}, fmt.Errorf("ask the server at %s: %w", address, err)
		}
		a, err := converse(ctx, conn, q)
		if err == nil {
			k.release(address, conn)
			return a, nil
		}
		_ = conn.Close()
		if fresh || ctx.Err() != nil {
			return answer{}, fmt.Errorf("ask the server at %s: %w", address, errors.Join(err, context.Cause(ctx)))
		}
	}
}

func converse(ctx context.Context, conn net.Conn, q question) (a answer, err error) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err = json.NewEncoder(conn).Encode(q); err == nil {
		err = json.NewDecoder(conn).Decode(&a) // no more than this one answer is on its way
	}
	return a, err
}

func (k *asker) connect(ctx context.Context, address string) (conn net.Conn, fresh bool, err error) {
	k.mu.Lock()
	if idle := k.idle[address]; len(idle) > 0 {
		conn, k.idle[address] = idle[len(idle)-1], idle[:len(idle)-1]
	}
	k.mu.Unlock()
	if conn != nil {
		return conn, false, nil
	}
	conn, err = k.streams.connect(ctx, AskProtocol, address)
	return conn, true, err
}

func (k *asker) release(address string, conn net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.idle[address]) >= idleAskers {
		_ = conn.Close()
		return
	}
	k.idle[address] = append(k.idle[address], conn)
}
