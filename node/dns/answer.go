package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

const (
	// ttl of all names of the cluster, and of their absence, in seconds: as long as a client may be wrong about an endpoint.
	ttl = 5
	// Weights matter among equals only, and all are.
	srvWeight = 100
	// The timers of the zone's SOA record, in seconds; nobody transfers the zone.
	soaRefresh, soaRetry, soaExpire = 7200, 1800, 86400
)

// answer is what the table says to a question. With alias set, the records end in a name that the table does not hold and
// somebody else has to be asked for.
type answer struct {
	records    []dns.RR
	additional []dns.RR
	authority  []dns.RR
	rcode      int
	alias      string
}

// maxAliases ends a chain of ExternalName Services that goes around.
const maxAliases = 8

// answer answers a question about a name that the table holds. Names in the answer are written as in the question.
func (t *table) answer(q dns.Question) answer {
	var a answer
	asked := q.Name
	for range maxAliases {
		name := dns.CanonicalName(asked)
		if !t.holds(name) {
			a.alias = name
			return a
		}
		f := t.find(name)
		a.records = append(a.records, f.records(asked, q.Qtype)...)
		if f.alias == "" || q.Qtype == dns.TypeCNAME {
			a.additional = f.glue(asked, q.Qtype)
			if !f.exists {
				a.rcode = dns.RcodeNameError
			}
			if !f.exists || len(a.records) == 0 {
				a.authority = []dns.RR{t.soa(name)}
			}
			return a
		}
		asked = f.alias
	}
	return answer{rcode: dns.RcodeServerFailure}
}

// records are the answers of one name to a question of a type; an alias answers every question.
func (f found) records(name string, qtype uint16) (records []dns.RR) {
	switch {
	case f.alias != "":
		return []dns.RR{&dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: f.alias}}
	case qtype == dns.TypeA || qtype == dns.TypeAAAA:
		return addressRecords(name, qtype, f.addresses)
	case qtype == dns.TypeSRV:
		return f.srv(name)
	case qtype == dns.TypePTR:
		for _, target := range f.pointers {
			records = append(records, &dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: target})
		}
	case qtype == dns.TypeTXT && f.text != "":
		records = append(records, &dns.TXT{Hdr: header(name, dns.TypeTXT), Txt: []string{f.text}})
	case qtype == dns.TypeSOA && dns.CanonicalName(name) == zone:
		records = append(records, newSOA(zone))
	}
	return records
}

// addressRecords begins anywhere in the list: clients take the first.
func addressRecords(name string, qtype uint16, addresses []netip.Addr) (records []dns.RR) {
	for _, address := range addresses {
		switch {
		case qtype == dns.TypeA && address.Is4():
			records = append(records, &dns.A{Hdr: header(name, dns.TypeA), A: address.AsSlice()})
		case qtype == dns.TypeAAAA && address.Is6():
			records = append(records, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: address.AsSlice()})
		}
	}
	if len(records) < 2 {
		return records
	}
	first := rand.IntN(len(records))
	return append(records[first:len(records):len(records)], records[:first]...)
}

// srv points to names below the Service's own, which is what follows the two labels of the port.
func (f found) srv(name string) (records []dns.RR) {
	for _, p := range f.services {
		records = append(records, &dns.SRV{
			Hdr: header(name, dns.TypeSRV), Weight: srvWeight, Port: p.number, Target: below(p.host, serviceName(name)),
		})
	}
	return records
}

func serviceName(name string) string { return dns.CanonicalName(name[dns.Split(name)[2]:]) }

// glue is the addresses of the names that SRV records point to.
func (f found) glue(name string, qtype uint16) (records []dns.RR) {
	if qtype != dns.TypeSRV {
		return nil
	}
	var hosts []string
	for _, p := range f.services {
		if slices.Contains(hosts, p.host) {
			continue
		}
		hosts = append(hosts, p.host)
		addresses := f.of.hosts[p.host]
		if p.host == "" {
			addresses = f.of.addresses
		}
		records = append(records, addressRecords(below(p.host, serviceName(name)), dns.TypeA, addresses)...)
	}
	return records
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// soa is the authority for the absence of a name: its minimum is how long that may be believed.
func (t *table) soa(name string) dns.RR {
	if own, ok := t.rangeOf(name); ok {
		return newSOA(reverseZone(own))
	}
	if dns.IsSubDomain(zone, name) {
		return newSOA(zone)
	}
	return newSOA(name) // the address of a Service: a zone of its own, since others around it are not ours
}

// reverseZone is the smallest zone that all reverse names of a range are in.
func reverseZone(own netip.Prefix) string {
	name, err := dns.ReverseAddr(own.Addr().String())
	if err != nil {
		panic("dns: a range has no reverse name: " + err.Error()) // netip's text is what it parses
	}
	const bitsPerLabel = 8
	return name[dns.Split(name)[(own.Addr().BitLen()-own.Bits()+bitsPerLabel-1)/bitsPerLabel]:]
}

func newSOA(name string) dns.RR {
	return &dns.SOA{
		Hdr: header(name, dns.TypeSOA), Ns: "ns.dns." + zone, Mbox: "hostmaster." + zone,
		Serial: 1, Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: ttl,
	}
}
