package raftlog

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"
)

// ballots is raft's transport, with the votes that it may not give left out. Raft's own servers vote whoever they are: one
// whose log is empty would help anyone to lead, also one that lacks what a log it lost had acknowledged. So a server has no
// vote before it is a member in its own log, and then it has all that was acknowledged before it became one.
type ballots struct {
	*raft.NetworkTransport
	consumer chan raft.RPC
}

func newBallots(t *raft.NetworkTransport) *ballots {
	return &ballots{NetworkTransport: t, consumer: make(chan raft.RPC)}
}

// Consumer implements raft.Transport.
func (b *ballots) Consumer() <-chan raft.RPC { return b.consumer }

// pass brings raft what others send, until ctx ends.
func (b *ballots) pass(ctx context.Context, isMember func() bool) {
	for {
		select {
		case rpc := <-b.NetworkTransport.Consumer():
			if refused(rpc, isMember) {
				continue
			}
			select {
			case b.consumer <- rpc:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// refused answers what a server that is no member has to refuse.
func refused(rpc raft.RPC, isMember func() bool) bool {
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}
	switch request := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		if !isMember() {
			rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header, Term: request.Term}, nil)
			return true
		}
	case *raft.RequestPreVoteRequest:
		if !isMember() {
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header, Term: request.Term}, nil)
			return true
		}
	case *raft.TimeoutNowRequest:
		if !isMember() {
			rpc.Respond(&raft.TimeoutNowResponse{RPCHeader: header}, errors.New("this server is not a member"))
			return true
		}
	}
	return false
}
