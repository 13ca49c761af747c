package state

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/object"
)

// A ring keeps the newest changes of one kind. It starts small and doubles while its oldest change is younger than
// ringAge, so that a watcher may be away for a minute; kube-apiserver's watch cache sizes itself by the same rule. Of older
// ones it keeps no more than ringMin: each holds an object that was superseded since. For the same reason it keeps more than
// ringCalm only for burstAge: who reads along in a burst needs no more, and 32 Ki superseded Pods are 80 MB.
const (
	ringMin  = 1 << 10
	ringCalm = 8 << 10
	ringMax  = 32 << 10
	ringAge  = 75 * time.Second
	burstAge = 10 * time.Second
)

// Change is one change of one object. Old is nil for a create, New for a delete. Both are shared: never modify them.
type Change[T object.Object] struct {
	Version  Version
	Old, New T
}

type change struct {
	version  Version
	old, new object.Object
}

type slot struct {
	change
	at time.Time
}

// ring is the changes of one kind after version floor.
type ring struct {
	mu    sync.RWMutex
	slots []slot // a circular buffer of n slots from start
	start int
	n     int
	floor Version       // changes after it are all here
	epoch int           // counts restores
	woken chan struct{} // closed at the next change
}

func newRing() *ring { return &ring{slots: make([]slot, ringMin), woken: make(chan struct{})} }

func (r *ring) append(changes []change, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if r.n == len(r.slots) {
			r.makeRoom(now)
		}
		r.slots[(r.start+r.n)%len(r.slots)] = slot{c, now}
		r.n++
	}
	r.dropOld(now)
	close(r.woken)
	r.woken = make(chan struct{})
}

// forget is for a ring to which nothing may come for long.
func (r *ring) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropOld(now)
}

func (r *ring) dropOld(now time.Time) {
	for r.n > r.kept(now.Sub(r.at(0).at)) {
		r.drop()
	}
}

// kept is how many changes a ring may have whose oldest has that age.
func (r *ring) kept(oldest time.Duration) int {
	switch {
	case oldest >= ringAge:
		return ringMin
	case oldest >= burstAge:
		return ringCalm
	}
	return ringMax
}

func (r *ring) makeRoom(now time.Time) {
	if len(r.slots) < r.kept(now.Sub(r.at(0).at)) {
		grown := make([]slot, 2*len(r.slots))
		for i := range r.n {
			grown[i] = r.slots[(r.start+i)%len(r.slots)]
		}
		r.slots, r.start = grown, 0
		return
	}
	r.drop()
}

// drop forgets the oldest change.
func (r *ring) drop() {
	oldest := r.at(0)
	r.floor = oldest.version
	*oldest = slot{}
	r.start = (r.start + 1) % len(r.slots)
	r.n--
}

// reset forgets everything: the state was replaced by a snapshot at version.
func (r *ring) reset(version Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots, r.start, r.n, r.floor = make([]slot, ringMin), 0, 0, version
	r.epoch++
	close(r.woken)
	r.woken = make(chan struct{})
}

func (r *ring) at(i int) *slot { return &r.slots[(r.start+i)%len(r.slots)] }

// Feed is a cursor over the changes of one kind. It has no goroutine and nothing to close. It is for one caller at a time.
type Feed[T object.Object] struct {
	ring  *ring
	after Version
	epoch int
}

// Changes follows the changes of T after a version, usually that of the snapshot the caller has listed from.
func Changes[T object.Object](s *Store, after Version) *Feed[T] {
	return newFeed[T](s.rings[tableOf[T](s.schema)], after)
}

// ChangesOf is Changes for a kind known only at run time.
func ChangesOf(s *Store, kind object.Kind, after Version) *Feed[object.Object] {
	return newFeed[object.Object](s.rings[s.schema.tableOfKind(kind)], after)
}

func newFeed[T object.Object](r *ring, after Version) *Feed[T] {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return &Feed[T]{ring: r, after: after, epoch: r.epoch}
}

// Next blocks until there is at least one change and fills buf in order of version. ErrCompacted: the reader fell behind
// or the state was restored; list again and start over.
func (f *Feed[T]) Next(ctx context.Context, buf []Change[T]) (int, error) {
	for {
		n, woken, err := f.read(buf)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Poll is Next for who does not want to wait: 0 says that there is no change now.
func (f *Feed[T]) Poll(buf []Change[T]) (int, error) {
	n, _, err := f.read(buf)
	return n, err
}

func (f *Feed[T]) read(buf []Change[T]) (int, <-chan struct{}, error) {
	r := f.ring
	r.mu.RLock()
	defer r.mu.RUnlock()
	if f.after < r.floor || f.epoch != r.epoch {
		return 0, nil, ErrCompacted
	}
	first := sort.Search(r.n, func(i int) bool { return r.at(i).version > f.after })
	n := min(len(buf), r.n-first)
	for i := range n {
		c := r.at(first + i)
		buf[i] = Change[T]{Version: c.version}
		if c.old != nil {
			buf[i].Old = c.old.(T)
		}
		if c.new != nil {
			buf[i].New = c.new.(T)
		}
		f.after = c.version
	}
	return n, r.woken, nil
}
