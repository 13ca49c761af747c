package server

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// Roles of a Member.
const (
	Voter    = "Voter"
	NonVoter = "NonVoter"
	Pending  = "Pending" // let in by a token, and no member of the log yet
)

// Member is what one server knows of another, or of itself.
type Member struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Role    string `json:"role"`
	Leader  bool   `json:"leader"`
	Reached bool   `json:"reached"`           // it answered just now
	Lag     uint64 `json:"lag"`               // entries of the log that it lacks; means nothing if it was not reached
	Version string `json:"version"`           // of Mainstay; empty: not told yet
	Level   int    `json:"level,omitempty"`   // the newest format level that it reads; 0: not told yet
	Trouble string `json:"trouble,omitempty"` // why it writes nothing, and what to do
}

// members lists the servers as this one knows them, after asking each how far it is.
func (s *server) members(ctx context.Context) ([]Member, error) {
	servers, err := s.raft.Servers(ctx)
	if err != nil {
		return nil, err
	}
	newest := uint64(0)
	for _, m := range servers {
		newest = max(newest, m.Index)
	}
	told := map[string]object.ServerSpec{}
	for there := range state.List[*object.Server](s.store.View(), "") {
		told[there.Name] = there.Spec
	}
	list := []Member{}
	for _, m := range servers {
		role := Voter
		if !m.Voter {
			role = NonVoter
		}
		if !m.Voter && told[m.ID].Pending {
			role = Pending
		}
		list = append(list, Member{Name: m.ID, Address: m.Address, Role: role, Leader: m.Leader, Reached: m.Reached, Lag: newest - m.Index, Version: told[m.ID].Version, Level: told[m.ID].Level, Trouble: m.Trouble})
		delete(told, m.ID)
	}
	for name, spec := range told {
		if !spec.Pending {
			continue // It is being removed: the log has forgotten it already.
		}
		list = append(list, Member{Name: name, Address: spec.Address, Role: Pending, Version: spec.Version, Level: spec.Level})
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// listed is what readers of the API hear of the servers. One that does not answer is not waited for long.
func (s *server) listed(ctx context.Context) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, censusTime)
	defer cancel()
	return s.members(ctx)
}

// listServers, removeServer and transfer answer the admin socket.
func (s *server) listServers(w http.ResponseWriter, r *http.Request) {
	list, err := s.members(r.Context())
	answerAdmin(w, list, err)
}

func (s *server) removeServer(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.log.Info("removal of a server asked for on this machine", "server", name)
	answerAdmin(w, true, s.byLeader(r.Context(), pathRemove, name, s.remove))
}

func (s *server) transfer(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("to")
	s.log.Info("hand-over asked for on this machine", "to", name)
	answerAdmin(w, true, s.byLeader(r.Context(), pathTransfer, name, s.raft.TransferLeadership))
}

// byLeader is atLeader for what is done to a name and answers nothing.
func (s *server) byLeader(ctx context.Context, path, name string, do func(context.Context, string) error) error {
	_, err := atLeader(ctx, s, path, name, func(ctx context.Context, name string) (bool, error) { return true, do(ctx, name) })
	return err
}

// Servers lists the servers as the one on this machine knows them.
func (a Admin) Servers(ctx context.Context) (list []Member, err error) {
	return list, a.call(ctx, http.MethodGet, "/servers", nil, &list)
}

// RemoveServer takes a server out of the cluster, for good.
func (a Admin) RemoveServer(ctx context.Context, name string) error {
	var done bool
	return a.call(ctx, http.MethodDelete, "/servers/"+url.PathEscape(name), nil, &done)
}

// TransferLeadership makes another server lead: the one named, or the one with the newest log if name is "".
func (a Admin) TransferLeadership(ctx context.Context, name string) error {
	var done bool
	return a.call(ctx, http.MethodPost, "/transfer?to="+url.QueryEscape(name), nil, &done)
}
