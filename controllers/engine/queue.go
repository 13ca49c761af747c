package engine

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mainstay-cluster/mainstay/state"
)

// queue holds the keys to reconcile, each at most once, in the order they came. A key that is added while a worker has it
// waits until that worker is done.
type queue struct {
	depth prometheus.Gauge

	mu     sync.Mutex
	more   *sync.Cond // signalled when order grows or the queue closes
	order  []state.Key
	items  map[state.Key]*item
	closed bool
}

// item is what is known of a key that is queued, running, failing or waiting for its time.
type item struct {
	queued, running bool
	resting         bool // until the timer fires
	dirty           bool // added while running or resting
	failures        int  // in a row
	timer           *time.Timer
}

func newQueue(depth prometheus.Gauge) *queue {
	q := &queue{depth: depth, items: map[state.Key]*item{}}
	q.more = sync.NewCond(&q.mu)
	return q
}

func (q *queue) add(key state.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(key, q.item(key))
}

func (q *queue) item(key state.Key) *item {
	it := q.items[key]
	if it == nil {
		it = &item{}
		q.items[key] = it
	}
	return it
}

func (q *queue) push(key state.Key, it *item) {
	switch {
	case q.closed || it.queued:
	case it.running || it.resting:
		it.dirty = true
	default:
		it.queued = true
		it.stopTimer()
		q.order = append(q.order, key)
		q.depth.Set(float64(len(q.order)))
		q.more.Signal()
	}
}

// get waits for a key; false when the queue is closed. The caller calls done or failed when it has dealt with the key.
func (q *queue) get() (state.Key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return state.Key{}, false
	}
	key := q.order[0]
	q.order = q.order[1:]
	q.depth.Set(float64(len(q.order)))
	it := q.items[key]
	it.queued, it.running = false, true
	return key, true
}

// done ends the work on a key that succeeded; it comes again after `again` if that is positive, and not before it has rested,
// whatever changes, unless `again` is sooner.
func (q *queue) done(key state.Key, again, rest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	it.failures = 0
	if again > 0 && again <= rest {
		rest = 0
	}
	q.release(key, it, again, rest)
}

// rested ends a key's rest. It comes again after `again` if that is positive, or at once if it was added meanwhile.
func (q *queue) rested(key state.Key, again time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(key, q.items[key], again, 0)
}

// failed ends the work on a key that failed and returns after how long it comes again.
func (q *queue) failed(key state.Key) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[key]
	delay := retryMost
	if it.failures < 16 { // beyond which the shift is longer than retryMost anyway
		delay = min(retryFirst<<it.failures, retryMost)
	}
	it.failures++
	q.release(key, it, delay, 0)
	return delay
}

func (q *queue) release(key state.Key, it *item, after, rest time.Duration) {
	it.running, it.resting = false, rest > 0
	switch {
	case q.closed:
	case it.resting:
		it.timer = time.AfterFunc(rest, func() { q.rested(key, after-rest) })
	case it.dirty:
		it.dirty = false
		q.push(key, it)
	case after > 0:
		it.timer = time.AfterFunc(after, func() { q.add(key) })
	default:
		delete(q.items, key)
	}
}

// close wakes every worker and stops every timer; what is queued is forgotten.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.order = nil
	q.depth.Set(0)
	for _, it := range q.items {
		it.stopTimer()
	}
	q.more.Broadcast()
}

func (it *item) stopTimer() {
	if it.timer != nil {
		it.timer.Stop()
		it.timer = nil
	}
}
