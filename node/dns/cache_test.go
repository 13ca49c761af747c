package dns

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// message is an answer to a question for A records.
func message(t *testing.T, rcode int, answer, authority []string) *dns.Msg {
	t.Helper()
	m := query("A", "www.example.com.")
	m.Response, m.Rcode = true, rcode
	m.SetEdns0(udpSize, false) // whose TTL is none
	for i, records := range [][]string{answer, authority} {
		for _, record := range records {
			rr, err := dns.NewRR(record)
			check(t, err)
			if i == 0 {
				m.Answer = append(m.Answer, rr)
			} else {
				m.Ns = append(m.Ns, rr)
			}
		}
	}
	return m
}

func TestHowLongAnswersAreKept(t *testing.T) {
	soa := func(ttl, minimum int) []string {
		return []string{fmt.Sprintf("example.com. %d IN SOA ns.example.com. me.example.com. 1 2 3 4 %d", ttl, minimum)}
	}
	cut := message(t, dns.RcodeSuccess, []string{example1}, nil)
	cut.Truncated = true
	for name, tc := range map[string]struct {
		m    *dns.Msg
		want time.Duration
	}{
		"the shortest TTL":             {message(t, dns.RcodeSuccess, []string{example1, "www.example.com. 7 IN A 192.0.2.2"}, nil), 7 * time.Second},
		"no longer than we like":       {message(t, dns.RcodeSuccess, []string{"www.example.com. 86400 IN A 192.0.2.2"}, nil), maxTTL},
		"not at all":                   {message(t, dns.RcodeSuccess, []string{"www.example.com. 0 IN A 192.0.2.2"}, nil), 0},
		"absence, the SOA's minimum":   {message(t, dns.RcodeNameError, nil, soa(20, 10)), 10 * time.Second},
		"absence, the SOA's TTL":       {message(t, dns.RcodeSuccess, nil, soa(10, 20)), 10 * time.Second},
		"absence, not for hours":       {message(t, dns.RcodeNameError, nil, soa(9000, 9000)), maxNegativeTTL},
		"absence without an authority": {message(t, dns.RcodeNameError, nil, nil), 0},
		"an SOA beside an answer":      {message(t, dns.RcodeSuccess, []string{example1}, soa(9000, 5)), time.Minute},
		"cut off":                      {cut, 0},
		"an error":                     {message(t, dns.RcodeServerFailure, []string{example1}, nil), 0},
	} {
		if got := lifetime(tc.m); got != tc.want {
			t.Errorf("%s: kept for %s, want %s", name, got, tc.want)
		}
	}
}

func TestTimeIsTakenOffTTLs(t *testing.T) {
	c, now := newCache(), time.Now()
	c.put(askExample, message(t, dns.RcodeSuccess, []string{example1}, nil), now)
	if m := c.get(askExample, now.Add(45*time.Second)); m == nil || m.Answer[0].Header().Ttl != 15 || m.IsEdns0() == nil {
		t.Errorf("after 45 s of 60: %v", m)
	}
	if m := c.get(askExample, now.Add(time.Minute)); m != nil || len(c.entries) != 0 || c.bytes != 0 || c.order.Len() != 0 {
		t.Errorf("after all: %v and %d bytes", m, c.bytes)
	}
	if m := c.get(question{name: askExample.name, qtype: dns.TypeMX}, now); m != nil {
		t.Errorf("another question: %v", m)
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	c, now := newCache(), time.Now()
	m := message(t, dns.RcodeSuccess, []string{example1}, nil)
	numbered := func(i int) question { return question{name: fmt.Sprint(i), qtype: dns.TypeA} }
	for i := range cacheEntries + 10 {
		c.put(numbered(i), m, now)
		c.get(numbered(0), now) // in use all the time
	}
	if len(c.entries) != cacheEntries || c.order.Len() != cacheEntries || c.get(numbered(0), now) == nil || c.get(numbered(1), now) != nil {
		t.Errorf("%d entries, %d in order", len(c.entries), c.order.Len())
	}
	for range 500 {
		m.Answer = append(m.Answer, m.Answer[0])
	}
	for i := range 2 * cacheBytes / m.Len() {
		c.put(numbered(-1-i), m, now)
		c.get(numbered(0), now)
	}
	if c.bytes > cacheBytes || c.bytes < cacheBytes/2 || c.get(numbered(0), now) == nil {
		t.Errorf("%d bytes in %d entries", c.bytes, len(c.entries))
	}
}

func TestResolvConfIsReadAgainOnceItChanged(t *testing.T) {
	r := &resolvers{path: resolvConf(t, "192.0.2.1", "not.an.address", "2001:db8::1")}
	now := time.Now()
	expect := func(after time.Duration, fails bool, want string) {
		t.Helper()
		got, err := r.get(now.Add(after))
		if fmt.Sprint(got) != want || (err != nil) != fails {
			t.Errorf("after %s: %s (%v), want %s", after, got, err, want)
		}
	}
	expect(0, false, "[192.0.2.1 2001:db8::1]")
	check(t, os.WriteFile(r.path, []byte("nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\nnameserver 192.0.2.5\n"), 0o600))
	expect(recheck-1, false, "[192.0.2.1 2001:db8::1]")
	expect(recheck, false, "[192.0.2.2 192.0.2.3 192.0.2.4]")
	check(t, os.Remove(r.path))
	expect(3*recheck, true, "[192.0.2.2 192.0.2.3 192.0.2.4]")
}
