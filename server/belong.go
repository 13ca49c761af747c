package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

const (
	// reassure is how often a server that is what it should be makes sure of it: one that was removed while it was away is told
	// by nobody.
	reassure = 30 * time.Second
	// firstAsk and lastAsk are between attempts to be made a member.
	firstAsk = 200 * time.Millisecond
	lastAsk  = 10 * time.Second
	// catchUpLook is how often a new server looks how far it is, catchUpTold how often its log says so.
	catchUpLook = 20 * time.Millisecond
	catchUpTold = 2 * time.Second
)

var (
	// errRemoved is why a server ends that the others have removed.
	errRemoved = errors.New("this server was removed from the cluster: its data directory is of no more use. To have this machine as a server again, " +
		"move the directory away, make a token by `mainstay token create --role server`, and start it with --join and --token")
	// errElsewhere is the answer of a server that does not lead.
	errElsewhere = errors.New("no server that leads was found")
)

// announcement is what a server says of itself.
type announcement struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Endpoint string `json:"endpoint,omitempty"`
	Version  string `json:"version"`
	Level    int    `json:"level"`
	NonVoter bool   `json:"nonVoter,omitempty"`
}

func (s *server) announcement() announcement {
	return announcement{Name: s.id, Address: s.advertise, Endpoint: *s.forPods.Load(), Version: s.cfg.Version, Level: s.level, NonVoter: s.cfg.NonVoter}
}

// known reports whether the cluster knows this server as what it says. One that has a vote keeps it until it is removed.
func (s *server) known(r state.Reader) bool {
	there, ok := state.Get[*object.Server](r, state.Key{Name: s.id})
	a := s.announcement()
	return ok && !there.Spec.Pending && there.Spec.Address == a.Address && there.Spec.Endpoint == a.Endpoint && there.Spec.Version == a.Version &&
		there.Spec.Level == a.Level && (a.NonVoter || !there.Spec.NonVoter)
}

// belong sees to it that the others know this server as it is, and that it is a member of the log, until ctx ends. It returns
// errRemoved once it is no more to be one, errOlder if it is not good enough for one.
func (s *server) belong(ctx context.Context) error {
	wait := firstAsk
	for asked := time.Now(); ; {
		leader, _ := s.raft.Leader()
		known := s.known(s.store.View())
		if leader == s.id || len(s.others(ctx)) == 0 || known && (leader != "" || time.Since(asked) < reassure) {
			wait = firstAsk
			if err := awaitFor(ctx, s.store, reassure, func(r state.Reader) bool { return known && !s.known(r) }); err != nil {
				return err
			}
			continue
		}
		asked = time.Now()
		switch err := s.askToBelong(ctx); {
		case errors.Is(err, errRemoved), errors.Is(err, errOlder):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			s.log.Warn("the servers do not have this one as a member yet: trying again", "err", err, "in", wait)
			if err := awaitFor(ctx, s.store, wait, s.known); err != nil {
				return err
			}
			wait = min(2*wait, lastAsk)
		}
	}
}

// tell has the cluster know this server as it is.
func (s *server) tell(ctx context.Context) error {
	if leader, _ := s.raft.Leader(); leader != s.id {
		return s.askToBelong(ctx)
	}
	if err := s.store.Leading(ctx); err != nil {
		return err
	}
	return s.announce(ctx)
}

// askToBelong tells the leader of this server, and waits until what came of it is known here.
func (s *server) askToBelong(ctx context.Context) error {
	for {
		var got belonging
		if err := s.askLeader(ctx, pathEnlist, s.announcement(), &got); err != nil {
			return err
		}
		if got.Member {
			s.log.Info("member of the servers", "server", s.id, "voter", got.Voter)
			_, err := s.store.Wait(ctx, got.Version)
			return err
		}
		if err := s.catchUp(ctx, got.Index); err != nil {
			return err
		}
	}
}

// catchUp returns once this server has the log up to index, or after a while: by then the leader may know better.
func (s *server) catchUp(ctx context.Context, index uint64) error {
	look, tell := time.NewTicker(catchUpLook), time.NewTicker(catchUpTold)
	defer look.Stop()
	defer tell.Stop()
	for start := time.Now(); s.raft.Index() < index && time.Since(start) < reassure; {
		select {
		case <-look.C:
		case <-tell.C:
			have := s.raft.Index()
			s.log.Info(fmt.Sprintf("waiting for the log: %d %%", 100*have/index), "have", have, "of", index)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// askLeader puts a question to the server that leads, wherever that is, and fills in its answer.
func (s *server) askLeader(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	var reasons []string
	if trouble := s.raft.Trouble(); trouble != "" {
		reasons = append(reasons, "this one writes nothing: "+trouble)
	}
	for _, address := range s.others(ctx) {
		err := s.askServer(ctx, address, path, body, answer)
		if err == nil || !errors.Is(err, errElsewhere) {
			return err
		}
		reasons = append(reasons, address+": "+strings.TrimPrefix(err.Error(), errElsewhere.Error()+": "))
	}
	return fmt.Errorf("%w: %s", errElsewhere, strings.Join(reasons, "; "))
}

// others lists where other servers may be, the one that leads first.
func (s *server) others(ctx context.Context) (addresses []string) {
	_, leader := s.raft.Leader()
	var logged []string // without a majority the store may know nothing yet
	members, _ := s.raft.Members(ctx)
	for _, m := range members {
		logged = append(logged, m.Address)
	}
	for _, address := range slices.Concat([]string{leader}, logged, tables.ServerAddresses(s.store.View()), s.membership.Servers, s.cfg.Join) {
		if address != "" && address != s.advertise && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// askTimeout bounds one question to one server, a change of the log's members included.
const askTimeout = 15 * time.Second

func (s *server) askServer(ctx context.Context, address, path string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("it did not answer within %s", askTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: s.dial, TLSClientConfig: s.self.ToServers(), DisableKeepAlives: true}}).Do(req)
	if err != nil {
		var request *url.Error // whose words repeat the address
		if errors.As(err, &request) {
			err = request.Err
		}
		return fmt.Errorf("%w: %w", errElsewhere, err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return fmt.Errorf("%w: read its answer: %w", errElsewhere, err)
	case resp.StatusCode == http.StatusOK:
		return json.Unmarshal(content, answer)
	case resp.StatusCode == http.StatusGone:
		return errRemoved
	case resp.StatusCode == http.StatusUpgradeRequired:
		return errOlder
	case resp.StatusCode == http.StatusConflict:
		return errors.New(strings.TrimSpace(string(content)))
	}
	return fmt.Errorf("%w: it says: %s", errElsewhere, strings.TrimSpace(string(content)))
}
