package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// fake is a nameserver that says what the test wants.
type fake struct {
	asked atomic.Int64
	port  uint16
}

// fakeOn serves an address; with port 0, on any.
func fakeOn(t testing.TB, address string, port uint16, say dns.HandlerFunc) *fake {
	t.Helper()
	f := &fake{port: port}
	if port == 0 {
		f.port = freePort(t, address)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(address), f.port)
	l, err := listen(t.Context(), at)
	check(t, err)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		f.asked.Add(1)
		say(w, r)
	})
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	for _, s := range []*dns.Server{{PacketConn: l.udp, Handler: handler}, {Listener: l.tcp, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		serving.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { check(t, s.Shutdown()) })
	}
	return f
}

// says answers with records, as in a zone file.
func says(rcode int, records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetRcode(r, rcode)
		for _, record := range records {
			rr, err := dns.NewRR(record)
			if err != nil {
				panic(err)
			}
			if rr.Header().Rrtype == dns.TypeSOA {
				m.Ns = append(m.Ns, rr)
			} else {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	}
}

func silent(dns.ResponseWriter, *dns.Msg) {}

const example1 = "www.example.com. 60 IN A 192.0.2.1"

var askExample = question{name: "www.example.com.", qtype: dns.TypeA}

func upstreamOf(t testing.TB, port uint16, servers ...string) *upstream {
	u := newUpstream(resolvConf(t, servers...))
	u.port = port
	return u
}

func (u *upstream) must(t testing.TB, q question) (lines []string, cached bool) {
	t.Helper()
	m, cached, err := u.ask(t.Context(), q, netip.Addr{})
	check(t, err)
	return text(m.Answer), cached
}

func TestTheNextServerIsAskedIfOneDoesNotKnow(t *testing.T) {
	for name, first := range map[string]dns.HandlerFunc{
		"it fails":        says(dns.RcodeServerFailure),
		"it refuses":      says(dns.RcodeRefused),
		"it says nothing": silent,
		"it answers something else": func(w dns.ResponseWriter, r *dns.Msg) {
			r.Question[0].Name = "www.example.org."
			says(dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.66")(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			good := fakeOn(t, "127.77.10.2", 0, says(dns.RcodeSuccess, example1))
			bad := fakeOn(t, "127.77.10.1", good.port, first)
			u := upstreamOf(t, good.port, "127.77.10.1", "127.77.10.2")
			if got, _ := u.must(t, askExample); len(got) != 1 || got[0] != "www.example.com. A 192.0.2.1" {
				t.Errorf("answer %v", got)
			}
			before := bad.asked.Load()
			u.must(t, question{name: "www.example.com.", qtype: dns.TypeA, dnssec: true})
			if now := bad.asked.Load(); before == 0 || now != before {
				t.Errorf("the first server was asked %d times, then %d more", before, now-before)
			}
		})
	}
}

func TestAllServersFail(t *testing.T) {
	f := fakeOn(t, "127.77.11.1", 0, says(dns.RcodeServerFailure))
	u := upstreamOf(t, f.port, "127.77.11.1", "127.77.11.2")
	_, _, err := u.ask(t.Context(), askExample, netip.Addr{})
	if err == nil || !strings.Contains(err.Error(), "127.77.11.1: SERVFAIL") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	f = fakeOn(t, "127.77.11.3", f.port, says(dns.RcodeSuccess, example1))
	u = upstreamOf(t, f.port, "127.77.11.3")
	if _, _, err := u.ask(t.Context(), askExample, netip.MustParseAddr("127.77.11.3")); err == nil || f.asked.Load() > 0 {
		t.Errorf("the server's own address was asked (%v)", err)
	}
}

func TestLongAnswersAreAskedForByTCP(t *testing.T) {
	f := fakeOn(t, "127.77.12.1", 0, func(w dns.ResponseWriter, r *dns.Msg) {
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m := new(dns.Msg).SetReply(r)
			m.Truncated = true
			_ = w.WriteMsg(m)
			return
		}
		says(dns.RcodeSuccess, example1)(w, r)
	})
	if got, _ := upstreamOf(t, f.port, "127.77.12.1").must(t, askExample); len(got) != 1 {
		t.Errorf("answer %v", got)
	}
}

func TestServersOlderThanEDNS0(t *testing.T) {
	f := fakeOn(t, "127.77.15.1", 0, func(w dns.ResponseWriter, r *dns.Msg) {
		if r.IsEdns0() != nil {
			says(dns.RcodeFormatError)(w, r)
			return
		}
		says(dns.RcodeSuccess, example1)(w, r)
	})
	if got, _ := upstreamOf(t, f.port, "127.77.15.1").must(t, askExample); len(got) != 1 {
		t.Errorf("answer %v", got)
	}
}

func TestOneQuestionForAllWhoAskIt(t *testing.T) {
	release := make(chan struct{})
	f := fakeOn(t, "127.77.13.1", 0, func(w dns.ResponseWriter, r *dns.Msg) {
		<-release
		says(dns.RcodeSuccess, example1)(w, r)
	})
	u := upstreamOf(t, f.port, "127.77.13.1")
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			if got, _ := u.must(t, askExample); len(got) != 1 {
				t.Errorf("answer %v", got)
			}
		})
	}
	for len(u.asking) < 10 {
		runtime.Gosched()
	}
	close(release)
	clients.Wait()
	if _, cached := u.must(t, askExample); !cached {
		t.Error("it was not kept")
	}
	// One that came as the others left may have asked again.
	if n := f.asked.Load(); n > 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestAliasesAreFollowedOutside(t *testing.T) {
	f := fakeOn(t, "127.77.14.1", 0, func(w dns.ResponseWriter, r *dns.Msg) {
		if r.Question[0].Name != "www.example.com." || !r.RecursionDesired {
			says(dns.RcodeNameError)(w, r)
			return
		}
		says(dns.RcodeSuccess, "www.example.com. 60 IN CNAME host.example.com.", "host.example.com. 60 IN A 192.0.2.1")(w, r)
	})
	s := New(Config{Node: "me", ResolvConf: resolvConf(t, "127.77.14.1"), Log: slog.New(slog.DiscardHandler)})
	s.upstream.port = f.port
	s.names.Store(tableOf(example()))
	m, from := s.respond(context.Background(), query("A", "out.default.svc.cluster.local."))
	want := "host.example.com. A 192.0.2.1, out.default.svc.cluster.local. CNAME www.example.com., www.example.com. CNAME host.example.com."
	if got := strings.Join(text(m.Answer), ", "); got != want || from != fromCluster {
		t.Errorf("from %s: %s", from, got)
	}
	if m, from := s.respond(context.Background(), query("A", "absent.example.com.")); m.Rcode != dns.RcodeNameError || from != fromUpstream {
		t.Errorf("from %s: %v", from, m)
	}
}
