package nodelife

import (
	"sync"
	"time"
)

const (
	// timeToLive is how long a node may say nothing. An agent's poll, which lasts 10 s at most, begins with a sign of life, so
	// this is two polls.
	timeToLive = 20 * time.Second
	// late is how old a living node's last sign may be: one poll and the way back.
	late = 12 * time.Second
)

// Heartbeats is when each node last showed that it lives, as the leader remembers it for the time of its term. A node of
// which nothing was heard in this term counts from the term's beginning, so a new leader gives every node the full time. A
// nil one takes every node for alive. Safe for concurrent use.
type Heartbeats struct {
	began time.Time

	mu   sync.Mutex
	last map[string]time.Time // by node; guarded by mu
}

// NewHeartbeats begins a term at now.
func NewHeartbeats(now time.Time) *Heartbeats {
	return &Heartbeats{began: now, last: map[string]time.Time{}}
}

// Seen notes a sign of life.
func (h *Heartbeats) Seen(node string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[node] = now
}

// SeenAt notes a sign of life that was on its way for a while, by another server: it never makes a newer one older.
func (h *Heartbeats) SeenAt(node string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.After(h.last[node]) {
		h.last[node] = at
	}
}

// Heard is when a node was last heard of in this term; false if it was not.
func (h *Heartbeats) Heard(node string) (at time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok = h.last[node]
	return at, ok
}

// lastOf is when a node was heard of last.
func (h *Heartbeats) lastOf(node string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, ok := h.last[node]; ok {
		return last
	}
	return h.began
}

// left is how long a node may stay silent from now on; it is silent if that is not positive.
func (h *Heartbeats) left(node string, now time.Time) time.Duration {
	if h == nil {
		return timeToLive
	}
	return h.lastOf(node).Add(timeToLive).Sub(now)
}

// fresh says whether a node has spoken as lately as a living node does.
func (h *Heartbeats) fresh(node string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, ok := h.last[node]
	return ok && now.Sub(last) <= late
}

// trusted is from when on the silence of nodes is believed: those that were silent before the term had no time to be heard.
func (h *Heartbeats) trusted() time.Time {
	if h == nil {
		return time.Time{}
	}
	return h.began.Add(timeToLive)
}
