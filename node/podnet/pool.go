package podnet

import "net/netip"

// pool hands out the addresses of a range in turn, so that one that was just freed is used again as late as possible.
type pool struct {
	pods  netip.Prefix
	last  netip.Addr
	taken map[netip.Addr]bool // true while the kernel does not show the link yet
}

func newPool(pods netip.Prefix) *pool {
	return &pool{pods: pods.Masked(), last: gateway(pods), taken: map[netip.Addr]bool{}}
}

// take returns a free address; false if there is none.
func (p *pool) take() (netip.Addr, bool) {
	for address := p.after(p.last); ; address = p.after(address) {
		if _, taken := p.taken[address]; !taken {
			p.taken[address] = true
			p.last = address
			return address, true
		}
		if address == p.last {
			return netip.Addr{}, false
		}
	}
}

// after is the next usable address, going around: not the network's own, the gateway's or the broadcast address.
func (p *pool) after(address netip.Addr) netip.Addr {
	next := address.Next()
	if !p.pods.Contains(next) || next.Is4() && !p.pods.Contains(next.Next()) {
		return gateway(p.pods).Next()
	}
	return next
}

func (p *pool) put(address netip.Addr) { delete(p.taken, address) }

// plugged says that the kernel shows the link: from now on reset decides whether the address is taken.
func (p *pool) plugged(address netip.Addr) { p.taken[address] = false }

// reset frees every address that no port has, but for those on their way to one.
func (p *pool) reset(ports map[string]netip.Addr) {
	for address, underway := range p.taken {
		if !underway {
			delete(p.taken, address)
		}
	}
	for _, address := range ports {
		if p.pods.Contains(address) {
			p.taken[address] = false
			if p.last.Less(address) {
				p.last = address
			}
		}
	}
}
