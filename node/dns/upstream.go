package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// serverTimeout is what one nameserver gets before the next is asked; clients give up after 5 s.
	serverTimeout = 2 * time.Second
	// maxAsking bounds how many questions wait for nameservers: more than that, and they are dead.
	maxAsking = 1000
	// udpSize fits every path without fragments.
	udpSize = 1232
)

var (
	errNoServers = errors.New("the host's resolv.conf names no nameserver that could be asked: add one")
	errBusy      = errors.New("too many questions wait for the host's nameservers")
)

// upstream asks the host's nameservers, every question once at a time however many clients wait for its answer. A nameserver
// that sends a question back here therefore waits for itself and times out, instead of going around for ever.
type upstream struct {
	resolvers resolvers
	port      uint16
	cache     *cache
	flights   singleflight.Group
	asking    chan struct{} // tokens
	// preferred is the place in the list of the nameserver that answered last: one that is dead delays one question, not all.
	preferred atomic.Int64
}

func newUpstream(resolvConf string) *upstream {
	return &upstream{resolvers: resolvers{path: resolvConf}, port: dnsPort, cache: newCache(), asking: make(chan struct{}, maxAsking)}
}

// ask returns an answer of the caller's own, and whether it came from the cache. skip is an address that is never asked.
func (u *upstream) ask(ctx context.Context, q question, skip netip.Addr) (m *dns.Msg, cached bool, err error) {
	if m := u.cache.get(q, time.Now()); m != nil {
		return m, true, nil
	}
	select {
	case u.asking <- struct{}{}:
		defer func() { <-u.asking }()
	default:
		return nil, false, errBusy
	}
	got, err, _ := u.flights.Do(fmt.Sprintf("%s %d %t %t", q.name, q.qtype, q.dnssec, q.unchecked), func() (any, error) {
		m, err := u.askAll(ctx, q, skip)
		if err == nil {
			u.cache.put(q, m, time.Now())
		}
		return m, err
	})
	if err != nil {
		return nil, false, err
	}
	return got.(*dns.Msg).Copy(), false, nil
}

// askAll asks one nameserver after the other until one knows.
func (u *upstream) askAll(ctx context.Context, q question, skip netip.Addr) (*dns.Msg, error) {
	servers, err := u.resolvers.get(time.Now())
	errs := []error{err}
	first := int(u.preferred.Load())
	for i := range servers {
		at := (first + i) % len(servers)
		if servers[at] == skip {
			continue
		}
		m, err := u.askOne(ctx, q, servers[at])
		if err == nil {
			u.preferred.Store(int64(at))
			return m, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		errs = append(errs, errNoServers)
	}
	return nil, fmt.Errorf("ask for %s: %w", q.name, errors.Join(errs...))
}

// askOne asks one nameserver.
func (u *upstream) askOne(ctx context.Context, q question, server netip.Addr) (*dns.Msg, error) {
	r := new(dns.Msg)
	r.SetQuestion(q.name, q.qtype)
	r.CheckingDisabled = q.unchecked
	r.SetEdns0(udpSize, q.dnssec)
	address := net.JoinHostPort(server.String(), strconv.Itoa(int(u.port)))
	m, err := exchangeWith(ctx, r, address)
	if err == nil && m.Rcode == dns.RcodeFormatError { // it is older than EDNS0
		r.Extra = nil
		m, err = exchangeWith(ctx, r, address)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("nameserver %s: %w", server, err)
	case len(m.Question) != 1 || dns.CanonicalName(m.Question[0].Name) != q.name || m.Question[0].Qtype != q.qtype:
		return nil, fmt.Errorf("nameserver %s answers another question", server)
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("nameserver %s: %s", server, dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

// exchangeWith asks by UDP, and by TCP where the answer is too long for it.
func exchangeWith(ctx context.Context, r *dns.Msg, address string) (*dns.Msg, error) {
	client := &dns.Client{Timeout: serverTimeout, UDPSize: udpSize}
	m, _, err := client.ExchangeContext(ctx, r, address)
	if err == nil && m.Truncated {
		client.Net = "tcp"
		m, _, err = client.ExchangeContext(ctx, r, address)
	}
	return m, err
}
