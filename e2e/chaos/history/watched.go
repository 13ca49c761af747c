package history

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/watch"
)

// Watched says where a watch was told something twice, in another order, or not at all, also across servers, and where what
// it was told does not add up to what is there in the end.
func (h *History) Watched() error {
	v := violations{promise: "watches have no gap, duplicate or reorder"}
	told := map[string]*changes{}
	for _, w := range h.Watches {
		if told[w.Kind] == nil {
			told[w.Kind] = &changes{at: map[uint64]Event{}}
		}
		for i := range w.Segments {
			w.Segments[i].follow(w.Client, &v)
			told[w.Kind].add(w.Client, &w.Segments[i], &v)
		}
	}
	for _, c := range told {
		c.sort()
	}
	for _, w := range h.Watches {
		for i := range w.Segments {
			told[w.Kind].missing(w.Client, &w.Segments[i], &v)
		}
	}
	return v.err()
}

// follow replays a segment on its list.
func (s *Segment) follow(client string, v *violations) {
	objects, last := maps.Clone(s.Objects), s.Version
	if objects == nil {
		objects = map[string]uint64{}
	}
	for _, e := range s.Events {
		if e.Type == string(watch.Bookmark) {
			if e.Version < last {
				v.add("%s: a bookmark of %s goes back from version %d to %d", client, e.Server, last, e.Version)
			}
			last = max(last, e.Version)
			continue
		}
		if e.Version <= last {
			v.add("%s: after version %d server %s tells %s %s of version %d", client, last, e.Server, e.Type, e.Name, e.Version)
		}
		last = max(last, e.Version)
		_, there := objects[e.Name]
		if there == (e.Type == string(watch.Added)) {
			v.add("%s: server %s tells %s %s of version %d, there before: %t", client, e.Server, e.Type, e.Name, e.Version, there)
		}
		if e.Type == string(watch.Deleted) {
			delete(objects, e.Name)
		} else {
			objects[e.Name] = e.Version
		}
	}
	if s.Settled != nil && !maps.Equal(objects, s.Settled) {
		v.add("%s: what it was told adds up to %v, but there is %v", client, objects, s.Settled)
	}
}

// changes is what all watches of a kind were told together.
type changes struct {
	at       map[uint64]Event // by version
	versions []uint64         // sorted
}

// add takes in what a segment was told, which must be what others were told of the same version.
func (c *changes) add(client string, s *Segment, v *violations) {
	for _, e := range s.Events {
		if e.Type == string(watch.Bookmark) {
			continue
		}
		was, known := c.at[e.Version]
		if known && (was.Type != e.Type || was.Name != e.Name || was.Generation != e.Generation) {
			v.add("%s: at version %d server %s tells %s %s of generation %d, server %s told %s %s of generation %d",
				client, e.Version, e.Server, e.Type, e.Name, e.Generation, was.Server, was.Type, was.Name, was.Generation)
		}
		c.at[e.Version] = e
	}
}

func (c *changes) sort() { c.versions = slices.Sorted(maps.Keys(c.at)) }

// missing finds what others were told between the first and the last version of a segment, and it was not.
func (c *changes) missing(client string, s *Segment, v *violations) {
	if len(s.Events) == 0 {
		return
	}
	had := map[uint64]bool{}
	for _, e := range s.Events {
		had[e.Version] = had[e.Version] || e.Type != string(watch.Bookmark)
	}
	first, _ := slices.BinarySearch(c.versions, s.Version+1)
	for _, version := range c.versions[first:] {
		if version > s.Events[len(s.Events)-1].Version {
			return
		}
		if e := c.at[version]; !had[version] {
			v.add("%s: between version %d and %d it was never told %s %s of version %d, which server %s told others",
				client, s.Version, s.Events[len(s.Events)-1].Version, e.Type, e.Name, version, e.Server)
		}
	}
}
