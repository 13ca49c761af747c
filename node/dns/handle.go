package dns

import (
	"context"
	"time"

	"github.com/miekg/dns"
)

// source says where an answer came from.
type source string

const (
	fromCluster  source = "cluster"
	fromCache    source = "cache"
	fromUpstream source = "upstream"
	fromNobody   source = "none" // the question was refused
)

// handle answers one message.
func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) {
	begun := time.Now()
	m, from := s.respond(ctx, r)
	fit(m, r, w.RemoteAddr().Network())
	err := w.WriteMsg(m)
	s.metrics.observe(from, m.Rcode, time.Since(begun))
	if err != nil {
		s.config.Log.Debug("answer not sent", "to", w.RemoteAddr(), "err", err)
	}
}

// respond is the whole answer to a message, whatever its size.
func (s *Server) respond(ctx context.Context, r *dns.Msg) (m *dns.Msg, from source) {
	m = new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	if rcode := refuse(r); rcode != dns.RcodeSuccess {
		m.Rcode = rcode
		return m, fromNobody
	}
	table := s.names.Load()
	if table == nil {
		m.Rcode = dns.RcodeServerFailure // which names there are is not known yet
		return m, fromNobody
	}
	q := r.Question[0]
	if name := dns.CanonicalName(q.Name); !table.holds(name) {
		return m, s.forward(ctx, m, r, name)
	}
	a := table.answer(q)
	m.Authoritative = true
	m.Answer, m.Extra, m.Ns, m.Rcode = a.records, a.additional, a.authority, a.rcode
	if a.alias != "" {
		s.forward(ctx, m, r, a.alias)
	}
	return m, fromCluster
}

// refuse returns why a message is not answered, RcodeSuccess if it is.
func refuse(r *dns.Msg) int {
	if len(r.Question) != 1 {
		return dns.RcodeFormatError // RFC 9619
	}
	if opt := r.IsEdns0(); opt != nil && opt.Version() != 0 {
		return dns.RcodeBadVers
	}
	switch q := r.Question[0]; {
	case r.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case q.Qclass != dns.ClassINET:
		return dns.RcodeRefused
	case q.Qtype == dns.TypeANY, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR: // RFC 8482
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

// forward adds what others say of a name.
func (s *Server) forward(ctx context.Context, m, r *dns.Msg, name string) source {
	q := question{name: name, qtype: r.Question[0].Qtype, unchecked: r.CheckingDisabled}
	if opt := r.IsEdns0(); opt != nil {
		q.dnssec = opt.Do()
	}
	got, cached, err := s.upstream.ask(ctx, q, s.place.Load().address)
	if err != nil {
		s.config.Log.Debug("name not resolved", "err", err)
		m.Rcode = dns.RcodeServerFailure
		if s.names.Load().hasService(name) {
			m.Rcode = dns.RcodeNameError
		}
		return fromUpstream
	}
	m.Answer = append(m.Answer, got.Answer...)
	m.Ns, m.Rcode = got.Ns, got.Rcode
	m.AuthenticatedData = got.AuthenticatedData && len(m.Answer) == len(got.Answer) && !m.Authoritative
	for _, rr := range got.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			m.Extra = append(m.Extra, rr)
		}
	}
	if cached {
		return fromCache
	}
	return fromUpstream
}

const networkUDP = "udp"

// fit makes an answer as long as its client takes it by the network it came by: one that is cut off is asked for again by TCP.
func fit(m, r *dns.Msg, network string) {
	m.Compress = true
	size := dns.MaxMsgSize
	if network == networkUDP {
		size = dns.MinMsgSize
	}
	if opt := r.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, opt.Do())
		if network == networkUDP {
			size = min(udpSize, max(size, int(opt.UDPSize())))
		}
	}
	m.Truncate(size)
}
