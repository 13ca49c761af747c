package history

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"
)

// Fresh says where an answer about what holds now came from a state older than one that anybody had seen before the
// question: what was seen once, on whatever server, is acknowledged and never lost (P10).
func (h *History) Fresh() error {
	v := violations{promise: "P10 what was seen once stays"}
	known := h.known()
	for i := range h.Reads {
		r := &h.Reads[i]
		if r.Level != Linear || r.Version == 0 {
			continue
		}
		// The last that was known before the question is at the place before the first that came later.
		place, _ := slices.BinarySearchFunc(known, r.Began, func(k sighting, at time.Duration) int { return cmp.Compare(k.at, at) })
		if place > 0 && known[place-1].version > r.Version {
			v.add("%s: version %d had been seen by %s", r, known[place-1].version, known[place-1].at)
		}
	}
	return v.err()
}

// sighting is the newest version that had been seen at a time.
type sighting struct {
	at      time.Duration
	version uint64
}

// known is what had been seen when, in order of time; versions only rise.
func (h *History) known() []sighting {
	var all []sighting
	for i := range h.Reads {
		all = append(all, sighting{h.Reads[i].Ended, h.Reads[i].Version})
	}
	for e := range h.events() {
		all = append(all, sighting{e.At, e.Version})
	}
	slices.SortFunc(all, func(a, b sighting) int { return cmp.Compare(a.at, b.at) })
	for i := 1; i < len(all); i++ {
		all[i].version = max(all[i].version, all[i-1].version)
	}
	return all
}

// Ordered says where two answers disagree about the order of versions: at a later one an earlier commit, at the same one
// something else on another server, or less than was asked for.
func (h *History) Ordered() error {
	v := violations{promise: "versions are the same everywhere and only go on"}
	lists := make([]*Read, 0, len(h.Reads))
	for i := range h.Reads {
		r := &h.Reads[i]
		if r.Version == 0 {
			continue
		}
		if r.Version < r.Wanted {
			v.add("%s: version %d was asked for", r, r.Wanted)
		}
		lists = append(lists, r)
	}
	slices.SortFunc(lists, func(a, b *Read) int { return cmp.Compare(a.Version, b.Version) })
	for i := 1; i < len(lists); i++ {
		was, is := lists[i-1], lists[i]
		if was.Generation() > is.Generation() {
			v.add("%s shows generation %d, but %s shows %d", is, is.Generation(), was, was.Generation())
		}
		if was.Version == is.Version && !maps.Equal(was.Parts, is.Parts) {
			v.add("%s and %s show different objects", was, is)
		}
	}
	return v.err()
}

// Kept says which tokens were acknowledged and are not known to a server in the end (P10).
func (h *History) Kept() error {
	v := violations{promise: "P10 an acknowledged write survives"}
	for _, s := range h.Final {
		for _, token := range h.Tokens {
			if !slices.Contains(s.Tokens, token.ID) {
				v.add("token %s was acknowledged at %s, and server %s does not know it", token.ID, token.At, s.Name)
			}
		}
	}
	return v.err()
}

// events are those of all watches.
func (h *History) events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for _, w := range h.Watches {
			for _, s := range w.Segments {
				for _, e := range s.Events {
					if !yield(e) {
						return
					}
				}
			}
		}
	}
}
