package join

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Attempts to join are few in any cluster's life, and each costs a signature: guessing is hopeless, so this spares the
// processor and the log. A rack that starts at once gets through in seconds, for clients try again. One address has its own
// share, so that a stranger's attempts are no one else's.
const (
	attemptsPerSecond = 10 // from one address
	attemptsAtOnce    = 30
	attemptsOfAll     = 10 // times as many from all addresses together
	// addressesKnown bounds the memory for addresses; about 100 bytes each.
	addressesKnown = 4096
	// hostBits6 is the part of an IPv6 address that a stranger may choose at will.
	hostBits6 = 64
)

// attempts says who may try to join now. It is safe for concurrent use.
type attempts struct {
	mu   sync.Mutex
	all  *rate.Limiter
	from map[netip.Prefix]*rate.Limiter // guarded by mu
}

func newAttempts() *attempts {
	return &attempts{
		all:  rate.NewLimiter(attemptsOfAll*attemptsPerSecond, attemptsOfAll*attemptsAtOnce),
		from: map[netip.Prefix]*rate.Limiter{},
	}
}

// allow counts an attempt, unless there were too many.
func (a *attempts) allow(from netip.Addr, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	bits := from.BitLen()
	if from.Is6() && !from.Is4In6() {
		bits = hostBits6
	}
	at, _ := from.Prefix(bits) // the zero Prefix for who has no address
	own := a.from[at]
	if own == nil {
		if len(a.from) >= addressesKnown {
			a.forget(now)
		}
		own = rate.NewLimiter(attemptsPerSecond, attemptsAtOnce)
		a.from[at] = own
	}
	return own.AllowN(now, 1) && a.all.AllowN(now, 1)
}

// forget makes room: those go that have not tried for some time, and where there are none, all.
func (a *attempts) forget(now time.Time) {
	for at, own := range a.from {
		if own.TokensAt(now) >= attemptsAtOnce {
			delete(a.from, at)
		}
	}
	if len(a.from) >= addressesKnown {
		clear(a.from)
	}
}
