package dns

import (
	"context"
	"log/slog"
	"testing"

	"github.com/miekg/dns"
)

// FuzzQuestion sends any bytes through the path of a question: whatever can be unpacked is answered by what can be packed, to
// the same question, within the client's bounds. There are no nameservers, so nothing leaves the process.
func FuzzQuestion(f *testing.F) {
	for _, q := range []*dns.Msg{
		query("A", "web.shop.svc.cluster.local."), query("SRV", "_http._tcp.db.shop.svc.cluster.local."), query("PTR", "5.0.244.10.in-addr.arpa."),
		query("A", "in.default.svc.cluster.local."), query("A", "10-244-1-9.shop.pod.cluster.local."), query("SRV", "_a._b.c.d.svc.cluster.local."),
		query("A", "www.example.com.").SetEdns0(4096, true), query("ANY", "."), query("AAAA", `a\.b\000.cluster.local.`),
	} {
		wire, err := q.Pack()
		check(f, err)
		f.Add(wire)
	}
	s := New(Config{Node: "me", ResolvConf: noServers(f), Log: slog.New(slog.DiscardHandler)})
	s.names.Store(tableOf(example()))
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := new(dns.Msg)
		if r.Unpack(wire) != nil {
			return
		}
		m, _ := s.respond(context.Background(), r)
		fit(m, r, networkUDP)
		packed, err := m.Pack()
		if err != nil {
			t.Fatalf("question %v\nanswer %v: %v", r, m, err)
		}
		if len(packed) > udpSize {
			t.Errorf("answer of %d bytes", len(packed))
		}
		if len(r.Question) == 1 && (len(m.Question) != 1 || m.Question[0] != r.Question[0]) {
			t.Errorf("question %v\nanswer %v", r.Question, m.Question)
		}
	})
}
