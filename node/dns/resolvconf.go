package dns

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// recheck is how long a change of the host's resolv.conf may go unnoticed; a look costs one system call.
	recheck = time.Second
	// maxServers is how many nameservers are asked, as the C library does.
	maxServers = 3
)

// resolvers are the nameservers in a resolv.conf, read again whenever the file has changed.
type resolvers struct {
	path string

	mu      sync.Mutex
	looked  time.Time    // guarded by mu
	seen    os.FileInfo  // of the file when it was read; nil: never; guarded by mu
	servers []netip.Addr // guarded by mu
}

// get returns the nameservers. If the file cannot be read, the error comes with those it held before.
func (r *resolvers) get(now time.Time) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen != nil && now.Sub(r.looked) < recheck {
		return r.servers, nil
	}
	info, err := os.Stat(r.path)
	if err != nil {
		return r.servers, err
	}
	r.looked = now
	if r.seen != nil && os.SameFile(r.seen, info) && r.seen.ModTime().Equal(info.ModTime()) && r.seen.Size() == info.Size() {
		return r.servers, nil
	}
	text, err := os.ReadFile(r.path)
	if err != nil {
		return r.servers, err
	}
	servers, err := nameservers(text)
	if err != nil {
		return r.servers, fmt.Errorf("%s: %w", r.path, err)
	}
	r.seen, r.servers = info, servers
	return servers, nil
}

// nameservers are the first few of a resolv.conf's text; what is no address is passed over, as the C library does.
func nameservers(text []byte) (servers []netip.Addr, err error) {
	config, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, server := range config.Servers {
		if address, err := netip.ParseAddr(server); err == nil && len(servers) < maxServers {
			servers = append(servers, address)
		}
	}
	return servers, nil
}
