package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// What the cache holds at most. A name is a few hundred bytes, so that the first bound is the usual one.
	cacheEntries = 10_000
	cacheBytes   = 4 << 20
	// However long a name may be believed, what was a mistake of its owner's is gone within this.
	maxTTL = 5 * time.Minute
	// RFC 2308 lets absence be believed for hours; somebody who has just made a name will not wait that long.
	maxNegativeTTL = 30 * time.Second
)

// question is what others are asked, and what their answer is kept under.
type question struct {
	name  string // in lower case
	qtype uint16
	// What the client wants to be told: DNSSEC's records, and answers whose signatures nobody checked.
	dnssec, unchecked bool
}

// cache keeps the answers of others as long as they say, the least recently used ones going first where room is short.
type cache struct {
	mu      sync.Mutex
	entries map[question]*list.Element // guarded by mu
	order   *list.List                 // of *entry, the last used first; guarded by mu
	bytes   int                        // of all messages; guarded by mu
}

type entry struct {
	question question
	wire     []byte
	stored   time.Time
	expires  time.Time
}

func newCache() *cache { return &cache{entries: map[question]*list.Element{}, order: list.New()} }

// get returns a message of the caller's own, with what is left of its TTLs; nil if there is none.
func (c *cache) get(q question, now time.Time) *dns.Msg {
	e := c.lookUp(q, now)
	if e == nil {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(e.wire); err != nil {
		panic("dns: a message that was packed cannot be unpacked: " + err.Error())
	}
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, rr := range recordsOf(m) {
		h := rr.Header()
		h.Ttl -= min(h.Ttl, age)
	}
	return m
}

func (c *cache) lookUp(q question, now time.Time) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.entries[q]
	if at == nil {
		return nil
	}
	if !now.Before(at.Value.(*entry).expires) {
		c.drop(at)
		return nil
	}
	c.order.MoveToFront(at)
	return at.Value.(*entry)
}

// put keeps a message, unless it says that it must not be kept.
func (c *cache) put(q question, m *dns.Msg, now time.Time) {
	keep := lifetime(m)
	if keep <= 0 {
		return
	}
	wire, err := m.Pack()
	if err != nil {
		return // it can be passed on as little; whoever does says so
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[q]; old != nil {
		c.drop(old)
	}
	c.entries[q] = c.order.PushFront(&entry{question: q, wire: wire, stored: now, expires: now.Add(keep)})
	c.bytes += len(wire)
	for c.order.Len() > cacheEntries || c.bytes > cacheBytes {
		c.drop(c.order.Back())
	}
}

// drop removes an entry. The caller holds mu.
func (c *cache) drop(at *list.Element) {
	e := c.order.Remove(at).(*entry)
	delete(c.entries, e.question)
	c.bytes -= len(e.wire)
}

// lifetime is how long an answer may be kept: not at all if it is cut off, an error, or an absence without an authority (RFC 2308).
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	keep, most := maxTTL, maxTTL
	absent := m.Rcode == dns.RcodeNameError || len(m.Answer) == 0
	for _, rr := range recordsOf(m) {
		keep = min(keep, time.Duration(rr.Header().Ttl)*time.Second)
		if soa, ok := rr.(*dns.SOA); ok && absent {
			keep, absent = min(keep, time.Duration(soa.Minttl)*time.Second), false
			most = maxNegativeTTL
		}
	}
	if absent {
		return 0
	}
	return min(keep, most)
}

// recordsOf are all records that have a TTL.
func recordsOf(m *dns.Msg) (all []dns.RR) {
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				all = append(all, rr)
			}
		}
	}
	return all
}
