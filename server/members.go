package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// What servers ask the one that leads.
const (
	pathEnlist   = api.ServerPrefix + "enlist"
	pathRemove   = api.ServerPrefix + "remove"
	pathTransfer = api.ServerPrefix + "transfer"
	pathRotate   = api.ServerPrefix + "rotate"
	pathFinish   = api.ServerPrefix + "finish"
	pathTokens   = api.ServerPrefix + "tokens"
	pathRevoke   = api.ServerPrefix + "revoke"
)

// nearby is how many entries a new server may lack when it is given a vote: it gets them while the leader waits.
const nearby = 4096

// errGone is about a server that is no member and was not let in.
var errGone = errors.New("no such server was let in, or it was removed")

// belonging is what a server is told that asked to be a member.
type belonging struct {
	Member  bool          `json:"member"`
	Voter   bool          `json:"voter"`
	Version state.Version `json:"version"` // of the store in which all see it
	Index   uint64        `json:"index"`   // if it is no member yet: what of the log it needs before it asks again
}

// forServers answers what other servers ask of the one that leads.
func (s *server) forServers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathEnlist, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, a announcement) (any, error) {
			if a.Name != r.TLS.PeerCertificates[0].Subject.CommonName {
				return nil, fmt.Errorf("a server may speak of itself alone, not of %q", a.Name)
			}
			return s.enlist(ctx, a)
		})
	})
	mux.HandleFunc("POST "+pathRemove, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, name string) (any, error) { return true, s.remove(ctx, name) })
	})
	mux.HandleFunc("POST "+pathTransfer, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, name string) (any, error) { return true, s.raft.TransferLeadership(ctx, name) })
	})
	mux.HandleFunc("POST "+pathRotate, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, _ string) (any, error) { return true, s.rotateAuthority(ctx, "") })
	})
	mux.HandleFunc("POST "+pathFinish, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, leave string) (any, error) { return true, s.finishRotation(ctx, leave) })
	})
	mux.HandleFunc("POST "+pathSeen, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, told ages) (any, error) { return s.hear(ctx, told) })
	})
	mux.HandleFunc("POST "+pathTokens, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, wanted join.Wanted) (any, error) { return s.newToken(ctx, wanted) })
	})
	mux.HandleFunc("POST "+pathRevoke, func(w http.ResponseWriter, r *http.Request) {
		answerServer(s, w, r, func(ctx context.Context, id string) (any, error) { return s.gate.RevokeToken(ctx, id) })
	})
	return mux
}

// maxServerBody bounds what a server may ask.
const maxServerBody = 64 << 10

// answerServer does what a server asks, if this one leads.
func answerServer[Q any](s *server, w http.ResponseWriter, r *http.Request, do func(context.Context, Q) (any, error)) {
	var q Q
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxServerBody)).Decode(&q); err != nil {
		http.Error(w, "the request is not understood: give all servers the same version", http.StatusBadRequest)
		return
	}
	if err := s.leads(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer, err := do(r.Context(), q)
	switch {
	case errors.Is(err, errGone):
		http.Error(w, err.Error(), http.StatusGone)
	case errors.Is(err, errOlder):
		http.Error(w, err.Error(), http.StatusUpgradeRequired)
	case errors.Is(err, state.ErrNotLeader), errors.Is(err, state.ErrUnknown):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		answerAdmin(w, answer, nil)
	}
}

// leads says why this server is not the one to ask.
func (s *server) leads() error {
	switch leader, address := s.raft.Leader(); leader {
	case s.id:
		return nil
	case "":
		return errors.New("no server leads at this moment, as far as this one knows")
	default:
		return fmt.Errorf("server %s at %s leads", leader, address)
	}
}

// enlist makes a server that was let in a member of the log, and has all know where it is.
func (s *server) enlist(ctx context.Context, a announcement) (belonging, error) {
	if err := s.store.Leading(ctx); err != nil {
		return belonging{}, err
	}
	if _, ok := state.Get[*object.Server](s.store.View(), state.Key{Name: a.Name}); !ok {
		return belonging{}, errGone
	}
	if a.Level < tables.Level(s.store.View()) {
		return belonging{}, errOlder
	}
	voter, lacks, err := s.admit(ctx, a)
	if err != nil || lacks > 0 {
		return belonging{Index: lacks}, err
	}
	version, err := s.store.Update(ctx, func(tx *state.Txn) error {
		there, ok := state.Get[*object.Server](tx, state.Key{Name: a.Name})
		if !ok {
			return errGone
		}
		told := there.DeepCopy()
		told.Spec = object.ServerSpec{Address: a.Address, Endpoint: a.Endpoint, Version: a.Version, Level: a.Level, NonVoter: !voter}
		tx.Update(told)
		return nil
	})
	return belonging{Member: true, Voter: voter, Version: version}, err
}

// admit brings a server nearer to what it asks to be. It has to ask again once it has the log up to lacks, if that is not 0.
func (s *server) admit(ctx context.Context, a announcement) (voter bool, lacks uint64, err error) {
	servers, err := s.raft.Servers(ctx)
	if err != nil {
		return false, 0, err
	}
	newest := uint64(1)
	for _, other := range servers {
		newest = max(newest, other.Index)
	}
	i := slices.IndexFunc(servers, func(o raftlog.Server) bool { return o.ID == a.Name })
	there := i >= 0 && servers[i].Address == a.Address
	switch {
	case there && servers[i].Voter:
		return true, 0, nil
	case i >= 0 && servers[i].Voter, !a.NonVoter && there && servers[i].Reached && servers[i].Index+nearby >= newest:
		return true, 0, s.raft.AddVoter(ctx, a.Name, a.Address)
	case there && a.NonVoter:
		return false, 0, nil
	}
	if err := s.raft.AddNonvoter(ctx, a.Name, a.Address); err != nil || a.NonVoter {
		return false, 0, err
	}
	return false, newest, nil
}

// remove takes a server out of the cluster, for good.
func (s *server) remove(ctx context.Context, name string) error {
	members, err := s.raft.Members(ctx)
	if err != nil {
		return err
	}
	_, known := state.Get[*object.Server](s.store.View(), state.Key{Name: name})
	if member := slices.ContainsFunc(members, func(m raftlog.Server) bool { return m.ID == name }); member || !known {
		if err := s.raft.RemoveServer(ctx, name); err != nil {
			return err
		}
	}
	_, err = s.store.Update(ctx, func(tx *state.Txn) error {
		if there, ok := state.Get[*object.Server](tx, state.Key{Name: name}); ok {
			tx.Delete(there)
		}
		revoke(tx, name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget server %s: %w", name, err)
	}
	s.log.Info("server removed", "server", name)
	return nil
}

// tally brings what the cluster knows of its servers in line with the log's members, in case an earlier leader was interrupted
// between the one and the other.
func (s *server) tally(ctx context.Context) error {
	members, err := s.raft.Members(ctx)
	if err != nil {
		return err
	}
	_, err = s.store.Update(ctx, func(tx *state.Txn) error {
		known := map[string]bool{}
		for _, there := range slices.Collect(state.List[*object.Server](tx, "")) {
			known[there.Name] = true
			i := slices.IndexFunc(members, func(m raftlog.Server) bool { return m.ID == there.Name })
			switch {
			case i < 0 && !there.Spec.Pending:
				tx.Delete(there)
			case i >= 0 && members[i].Voter && (there.Spec.Pending || there.Spec.NonVoter):
				voting := there.DeepCopy()
				voting.Spec.Pending, voting.Spec.NonVoter = false, false
				tx.Update(voting)
			}
		}
		for _, m := range members {
			if !known[m.ID] {
				tx.Create(&object.Server{ObjectMeta: metav1.ObjectMeta{Name: m.ID}, Spec: object.ServerSpec{Address: m.Address, NonVoter: !m.Voter}})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare the servers with the log's members: %w", err)
	}
	return nil
}

// learnAll returns once this server holds all that was acknowledged before it started.
func (s *server) learnAll(ctx context.Context) error {
	for wait := firstAsk; ; wait = min(2*wait, lastAsk/5) {
		bounded, cancel := context.WithTimeout(ctx, askTimeout)
		err := s.readIndex(bounded)
		cancel()
		if err == nil {
			s.complete.Store(true)
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
