package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flow is a connection as the kernel keeps it.
type flow struct {
	frontend                // what the client connected to
	target   netip.AddrPort // who answers: the frontend itself if nobody translated the connection
	ours     bool           // we translated it
	made     bool           // by TCP's handshake; never for UDP
}

// verdicts tell which connections are to end: those to endpoints that are gone.
type verdicts struct {
	// known is what is behind each frontend now; nothing: the frontend is no more, or has no endpoint.
	known map[frontend][]endpoint
	// alive are endpoints of any of these frontends: TCP by way of a frontend that is no more goes on to them.
	alive map[netip.AddrPort]bool
	// services is where frontends are ours even if they are not known: what was deleted while no agent ran. Zero: nowhere.
	services netip.Prefix
}

func verdictsOn(old, wanted []route, services netip.Prefix) verdicts {
	v := verdicts{known: map[frontend][]endpoint{}, alive: map[netip.AddrPort]bool{}, services: services}
	for _, r := range old {
		v.known[r.frontend] = nil
	}
	for _, r := range wanted {
		v.known[r.frontend] = r.known
		for _, e := range r.known {
			v.alive[e.address] = true
		}
	}
	return v
}

// ends tells whether a connection must end. One that is made goes on as long as its endpoint is there, ready or not: what
// terminates drains. One that nobody has answered yet must leave an endpoint that does not serve any more: the kernel would send it
// there for two minutes, and every later one that happens to use the client's port again. UDP has no end of its own, so that
// holds for all of it; and what a client sent before there was an endpoint must not keep it from one.
func (v verdicts) ends(f flow) bool {
	if !f.ours {
		return f.protocol == "udp" && f.target == f.itself() && slices.ContainsFunc(v.known[f.frontend], serves)
	}
	behind, known := v.behind(f.frontend)
	if !known {
		return false
	}
	if len(behind) == 0 {
		return f.protocol == "udp" || !v.alive[f.target]
	}
	return !slices.ContainsFunc(behind, func(e endpoint) bool {
		return e.address == f.target && (f.made || serves(e))
	})
}

func (v verdicts) behind(f frontend) (list []endpoint, known bool) {
	if list, known = v.known[f]; known {
		return list, true
	}
	if v.services.Contains(f.address) {
		return nil, true
	}
	list, known = v.known[frontend{protocol: f.protocol, port: f.port}] // a port of the node
	return list, known
}

func serves(e endpoint) bool { return e.ready || e.serving }

func (f flow) itself() netip.AddrPort { return netip.AddrPortFrom(f.address, f.port) }

// mayEnd tells whether any connection may have to end: the kernel's table is long, and most changes only add.
func mayEnd(old, wanted []route) bool {
	before := verdictsOn(nil, old, netip.Prefix{})
	after := verdictsOn(old, wanted, netip.Prefix{})
	for front, list := range before.known {
		for _, e := range list {
			if after.ends(flow{frontend: front, target: e.address, ours: true}) && !before.ends(flow{frontend: front, target: e.address, ours: true}) {
				return true
			}
		}
	}
	for front, list := range after.known {
		if front.protocol == "udp" && slices.ContainsFunc(list, serves) && !slices.ContainsFunc(before.known[front], serves) {
			return true
		}
	}
	return false
}

// sweep ends connections to endpoints that are gone.
func (p *Proxy) sweep(v verdicts) error {
	n, err := p.table.end(v.ends)
	if err != nil {
		return fmt.Errorf("end connections to endpoints that are gone: %w", err)
	}
	if n > 0 {
		p.config.Log.Info("connections ended whose endpoints are gone or do not serve", "connections", n)
	}
	return nil
}

// dumpTries: the kernel breaks off a listing that runs into a change.
const dumpTries = 3

// endFlows removes the connections of which doomed is true. It returns how many.
func endFlows(doomed func(flow) bool) (int, error) {
	total := 0
	for try := 1; ; try++ {
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter(doomed))
		total += int(n)
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpTries {
			return total, err
		}
	}
}

// filter is which connections to remove, as package netlink asks for it.
type filter func(flow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (doomed filter) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	f, ok := flowOf(c)
	return ok && doomed(f)
}

// synSent is TCP_CONNTRACK_SYN_SENT of the kernel: nobody has answered.
const synSent = 1

func isMade(info netlink.ProtoInfo) bool {
	tcp, ok := info.(*netlink.ProtoInfoTCP)
	return ok && tcp.State != synSent
}

func flowOf(c *netlink.ConntrackFlow) (flow, bool) {
	protocol := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[c.Forward.Protocol]
	to, ok := netip.AddrFromSlice(c.Forward.DstIP)
	from, also := netip.AddrFromSlice(c.Reverse.SrcIP)
	return flow{
		frontend: frontend{to.Unmap(), protocol, c.Forward.DstPort},
		target:   netip.AddrPortFrom(from.Unmap(), c.Reverse.SrcPort),
		ours:     c.Mark&Mark != 0,
		made:     isMade(c.ProtoInfo),
	}, ok && also && protocol != ""
}
