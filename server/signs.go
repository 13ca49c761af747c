package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// signsEvery is how long signs of life are gathered before the leader is told: what it adds to their age is far less than
	// a node may be silent.
	signsEvery = time.Second
	// signsTime bounds one attempt to tell the leader.
	signsTime = 3 * time.Second
	// signLife is how old a sign may be that is still worth telling: no node lives by an older one.
	signLife = 20 * time.Second
	// signsAtOnce keeps what is told at once far below the bound of a request between servers.
	signsAtOnce = 500
)

// pathSeen is where a server tells the one that leads which nodes it hears of: their names, and how long ago that was.
const pathSeen = api.ServerPrefix + "seen"

// ages are how long ago nodes were heard of, by name.
type ages map[string]time.Duration

// signs are when nodes showed this server, which does not lead, that they live. It is safe for concurrent use.
type signs struct {
	mu   sync.Mutex
	last map[string]time.Time // not told to the leader yet, by node; guarded by mu
	wake chan struct{}        // capacity 1: a token, not a queue
}

func newSigns() *signs { return &signs{last: map[string]time.Time{}, wake: make(chan struct{}, 1)} }

func (g *signs) note(node string, at time.Time) {
	g.mu.Lock()
	if at.After(g.last[node]) {
		g.last[node] = at
	}
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// take empties the signs.
func (g *signs) take() map[string]time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := g.last
	g.last = map[string]time.Time{}
	return taken
}

// putBack returns what the leader could not be told, but for what is too old to matter.
func (g *signs) putBack(untold map[string]time.Time) {
	for node, at := range untold {
		if time.Since(at) < signLife {
			g.note(node, at)
		}
	}
}

// seen notes a node's sign of life: for this term if this server leads, else to be told to the one that does.
func (s *server) seen(node string) {
	if !s.store.Leads() {
		s.signs.note(node, time.Now())
		return
	}
	if beats := s.beats.Load(); beats != nil {
		beats.Seen(node, time.Now())
	}
}

// tellSigns tells the leader which nodes this server hears of, until ctx ends.
func (s *server) tellSigns(ctx context.Context) error {
	for {
		select {
		case <-s.signs.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-time.After(signsEvery): // more come meanwhile
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.tellLeader(ctx, s.signs.take())
	}
}

// tellLeader hands signs to whoever leads, this server perhaps, and keeps what it could not.
func (s *server) tellLeader(ctx context.Context, untold map[string]time.Time) {
	ctx, cancel := context.WithTimeout(ctx, signsTime)
	defer cancel()
	leader, err := s.leader(ctx)
	for names := range slices.Chunk(slices.Collect(maps.Keys(untold)), signsAtOnce) {
		if err != nil {
			break
		}
		part := ages{}
		for _, name := range names {
			part[name] = time.Since(untold[name])
		}
		if leader == "" {
			_, err = s.hear(ctx, part)
		} else {
			err = s.sendAges(ctx, leader, part)
		}
		if err == nil {
			maps.DeleteFunc(untold, func(name string, _ time.Time) bool { _, told := part[name]; return told })
		}
	}
	if err != nil {
		s.log.Debug("the leader does not hear of nodes yet: trying again", "nodes", len(untold), "err", err)
		s.signs.putBack(untold)
	}
}

func (s *server) sendAges(ctx context.Context, leader string, told ages) error {
	body, err := json.Marshal(told)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+leader+pathSeen, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	resp, err := s.toPeers.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server at %s answers %s", leader, resp.Status)
	}
	return nil
}

// hear notes signs of life that another server tells of.
func (s *server) hear(_ context.Context, told ages) (bool, error) {
	beats := s.beats.Load()
	if beats == nil || !s.store.Leads() {
		return false, state.ErrNotLeader
	}
	now := time.Now()
	for name, age := range told {
		beats.SeenAt(name, now.Add(-max(age, 0)))
	}
	return true, nil
}
