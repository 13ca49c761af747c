package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/state"
)

// maxNetworkLog is how many changes of the network are remembered: an agent that was away for longer hears everything anew.
const maxNetworkLog = 16 << 10

const (
	// restPerNode is twice what it takes to answer a node.
	restPerNode = 100 * time.Microsecond
	// restMost leaves the other half of a second, in which a new node has to be known everywhere, to those who hear of it.
	restMost = 500 * time.Millisecond
	// peersPerNode is by how much each node lengthens the turn in which all hear of nodes that came, moved or went: a hundred nodes
	// know it after a tenth of a second, 5 000 after five. To tell each of thousands of each other at once is what their
	// joining would cost most. Whatever else changes ends the turn.
	peersPerNode = time.Millisecond
)

// network is what every node is told of the cluster's network. One goroutine follows the store for all of them; a change is
// looked up and encoded once, however many nodes hear of it. The zero value is ready.
type network struct {
	polls atomic.Int32 // that are open

	mu    sync.Mutex
	now   *networkView  // nil until follow has begun; guarded by mu
	woken chan struct{} // closed when now is replaced; guarded by mu
}

// present returns the newest view, nil if there is none yet, and a channel that is closed when there is a newer one.
func (n *network) present() (*networkView, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.woken == nil {
		n.woken = make(chan struct{})
	}
	return n.now, n.woken
}

// publish replaces the view, and wakes the polls if it says anything new. It returns how many those were.
func (n *network) publish(v *networkView) (woken int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.now
	n.now = v
	if old != nil && old.answers == v.answers {
		return 0
	}
	if n.woken != nil {
		close(n.woken)
	}
	n.woken = make(chan struct{})
	return int(n.polls.Load())
}

// run publishes a view for every change, until ctx ends.
func (n *network) run(ctx context.Context, store *state.Store) error {
	for {
		err := n.follow(ctx, store)
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

// follow begins with a view that remembers nothing of the past, and ends with ErrCompacted when it has lost sight of the present.
func (n *network) follow(ctx context.Context, store *state.Store) error {
	view := newNetworkView(store.View())
	var sources []networkSource
	for _, kind := range networkKinds {
		sources = append(sources, kind.follow(store, view.snap))
	}
	n.publish(view)
	var peers turn
	for {
		snap, changes, err := peers.changesAfter(ctx, store, view.snap.Version, sources)
		if err != nil {
			return err
		}
		if snap != nil {
			view = view.next(snap, changes)
		}
		if peers.hold(changes) {
			continue
		}
		woken := n.publish(view)
		peers.begin(woken)
		if err := rest(ctx, woken); err != nil {
			return err
		}
	}
}

// turn is the time in which nobody is told of nodes, because all were told of some just before.
type turn struct {
	over time.Time // when it is, or was
	held bool      // there is something to tell then
}

// errTurn ends a wait for changes when those that are held are to be told.
var errTurn = errors.New("it is time to tell of nodes")

// changesAfter is networkChangesAfter until the turn is over, if something is held: then it returns no snapshot.
func (t *turn) changesAfter(ctx context.Context, store *state.Store, after state.Version, sources []networkSource) (*state.Snapshot, []networkChange, error) {
	if t.held {
		waiting, cancel := context.WithDeadlineCause(ctx, t.over, errTurn)
		defer cancel()
		if _, err := store.Wait(waiting, after+1); errors.Is(err, errTurn) {
			return nil, nil, nil
		}
	}
	return networkChangesAfter(ctx, store, after, sources)
}

// hold says whether all that is untold, now with changes, has to wait for the end of the turn.
func (t *turn) hold(changes []networkChange) bool {
	urgent := slices.ContainsFunc(changes, func(c networkChange) bool { return c.ref.Kind != link.KindPeer })
	t.held = (t.held || len(changes) > 0) && !urgent && time.Now().Before(t.over)
	return t.held
}

// begin is called when so many nodes were told.
func (t *turn) begin(nodes int) {
	if nodes > 0 {
		t.over = time.Now().Add(time.Duration(nodes) * peersPerNode)
	}
}

// rest lets so many nodes hear of one change before the next is told: of a thousand that join one after the other, each hears
// in turns and not of every one by itself.
func rest(ctx context.Context, nodes int) error {
	if nodes == 0 {
		return nil
	}
	select {
	case <-time.After(min(time.Duration(nodes)*restPerNode, restMost)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// networkChangesAfter waits for the store to move on, and returns a snapshot with all that has changed up to it and nothing beyond.
func networkChangesAfter(ctx context.Context, store *state.Store, after state.Version, sources []networkSource) (*state.Snapshot, []networkChange, error) {
	var changes []networkChange
	for upTo := after + 1; ; {
		snap, err := store.Wait(ctx, upTo)
		if err != nil {
			return nil, nil, err
		}
		for _, source := range sources {
			found, err := source()
			if err != nil {
				return nil, nil, err
			}
			changes = append(changes, found...)
		}
		for _, c := range changes {
			upTo = max(upTo, c.version)
		}
		if upTo <= snap.Version {
			return snap, changes, nil
		}
	}
}

// nodeNetwork answers as soon as the network differs from what the node was last told.
func (a *API) nodeNetwork(w http.ResponseWriter, r *http.Request, id Identity) error {
	var req link.NetworkRequest
	if err := readBody(r, &req); err != nil {
		return err
	}
	if err := itself(id, req.Node); err != nil {
		return err
	}
	body, err := a.networkAfter(r.Context(), req)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	writeParts(w, body)
	return nil
}

func (a *API) networkAfter(ctx context.Context, req link.NetworkRequest) ([]byte, error) {
	// A server that does not know everything yet must not call any route or endpoint gone.
	if err := a.ready(); err != nil {
		return nil, err
	}
	a.network.polls.Add(1)
	defer a.network.polls.Add(-1)
	known := state.Version(req.After)
	store := clusterOf(a.Store.View()).Status.Store
	if req.Store == "" || req.Store != store {
		known = 0
	}
	if _, err := a.waitFor(ctx, known); err != nil {
		return nil, unavailable(fmt.Sprintf("this server has not seen version %d yet; ask another one", known))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, min(max(req.Wait.Duration, 0), maxPoll), errNothingNew)
	defer cancel()
	for {
		view, woken := a.network.present()
		if view != nil && view.settled && view.snap.Version >= known && view.differs(known) {
			return view.since(store, known)
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return a.nothingNew(ctx, store, view)
		}
	}
}

// nothingNew is the answer at the end of a poll.
func (a *API) nothingNew(ctx context.Context, store string, view *networkView) ([]byte, error) {
	if cause := context.Cause(ctx); !errors.Is(cause, errNothingNew) {
		return nil, cause
	}
	if view == nil || !view.settled {
		return nil, unavailable("this server does not know yet what nodes run and the endpoints of every Service")
	}
	return json.Marshal(link.NetworkResponse{Store: store, Version: uint64(view.snap.Version), Ranges: view.ranges()})
}
