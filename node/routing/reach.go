package routing

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	// pingEvery and lostAfter let a node be led around two seconds after it died; servers are sure after twenty only, for they
	// replace its Pods.
	pingEvery = 500 * time.Millisecond
	// pingsEach bounds what asking very many nodes costs: 200 echoes in a second.
	pingsEach = 5 * time.Millisecond
	// lostAfter and backAfter are how many rounds in turn it takes to believe that a node does not answer, or does again.
	lostAfter = 3
	backAfter = 3
)

// Ping asks every host once for a sign of life and returns after wait those that gave one.
type Ping func(ctx context.Context, hosts []netip.Addr, wait time.Duration) (answered map[netip.Addr]bool, err error)

// contact is what this node has heard of another.
type contact struct {
	address netip.Addr
	heard   bool // it has answered once: one that never did may be behind a firewall
	lost    bool
	streak  int // rounds in turn that speak against what lost says
}

// answered takes in a round in which the node gave a sign of life. It tells whether lost has changed.
func (c *contact) answered() (changed bool) {
	c.heard = true
	if !c.lost {
		c.streak = 0
		return false
	}
	return c.doubt(backAfter)
}

// missed is answered for a round in which it gave none.
func (c *contact) missed() (changed bool) {
	if !c.heard || c.lost {
		c.streak = 0
		return false
	}
	return c.doubt(lostAfter)
}

// doubt counts a round that speaks against what lost says, and turns it after so many.
func (c *contact) doubt(enough int) (changed bool) {
	if c.streak++; c.streak < enough {
		return false
	}
	c.lost, c.streak = !c.lost, 0
	return true
}

// reach is which nodes can be reached from this one. Safe for concurrent use.
type reach struct {
	wake chan struct{}

	mu      sync.Mutex
	lost    map[string]bool // guarded by mu
	changed map[string]bool // since takeChanged; guarded by mu
}

func newReach(wake chan struct{}) *reach {
	return &reach{wake: wake, lost: map[string]bool{}, changed: map[string]bool{}}
}

func (r *reach) isLost(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost[node]
}

func (r *reach) anyLost() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lost) > 0
}

func (r *reach) takeChanged() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.changed
	r.changed = map[string]bool{}
	return changed
}

// turned notes which nodes are lost, or are not any more, all at once: one that is lost in the same round as another must not be
// taken for its substitute.
func (r *reach) turned(turns map[string]*contact) {
	if len(turns) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for node, c := range turns {
		delete(r.lost, node)
		if c.lost {
			r.lost[node] = true
		}
		r.changed[node] = true
	}
	nudge(r.wake)
}

// watch follows which nodes can be reached, until ctx ends.
func (f *Follower) watch(ctx context.Context) error {
	if f.cfg.Ping == nil {
		return nil
	}
	contacts := map[string]*contact{}
	for ctx.Err() == nil {
		hosts := f.refresh(contacts)
		wait := max(pingEvery, time.Duration(len(hosts))*pingsEach)
		answered, err := f.cfg.Ping(ctx, hosts, wait)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			f.cfg.Log.Debug("other nodes cannot be asked for a sign of life", "err", err)
			pause(ctx, wait)
			continue
		}
		f.tellReach(turnsOf(contacts, answered))
	}
	return nil
}

// turnsOf has all contacts take in a round, and returns those for which lost has changed.
func turnsOf(contacts map[string]*contact, answered map[netip.Addr]bool) map[string]*contact {
	turns := map[string]*contact{}
	for node, c := range contacts {
		turn := c.missed
		if answered[c.address] {
			turn = c.answered
		}
		if turn() {
			turns[node] = c
		}
	}
	return turns
}

// refresh brings contacts in line with the other nodes there are, and returns their addresses.
func (f *Follower) refresh(contacts map[string]*contact) (hosts []netip.Addr) {
	f.mu.Lock()
	peers := make(map[string]netip.Addr, len(f.told.Peers))
	for name, peer := range f.told.Peers {
		if address, err := netip.ParseAddr(peer.Address); err == nil && name != f.cfg.Node {
			peers[name] = address
			hosts = append(hosts, address)
		}
	}
	f.mu.Unlock()
	found := map[string]*contact{}
	for name, c := range contacts {
		if peers[name] != c.address {
			delete(contacts, name) // gone, or another machine
			if c.lost {
				c.lost = false
				found[name] = c
			}
		}
	}
	f.reach.turned(found)
	for name, address := range peers {
		if contacts[name] == nil {
			contacts[name] = &contact{address: address}
		}
	}
	return hosts
}

func (f *Follower) tellReach(turns map[string]*contact) {
	f.reach.turned(turns)
	for node, c := range turns {
		if c.lost {
			f.cfg.Log.Warn("a node does not answer: Services lead around it here until it does", "node", node, "address", c.address)
		} else {
			f.cfg.Log.Info("a node answers again", "node", node, "address", c.address)
		}
	}
}
