package policy

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// span is a range of numbers, both ends included.
type span struct{ first, last uint32 }

func spanOf(p netip.Prefix) (first, last uint32) {
	b := p.Masked().Addr().As4()
	first = binary.BigEndian.Uint32(b[:])
	return first, first | uint32(1<<(32-p.Bits())-1)
}

func address(n uint32) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b).String()
}

// join sorts spans and makes one of those that overlap.
func join(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.first <= out[n-1].last {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}
