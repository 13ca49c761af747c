package history

import (
	"fmt"
	"maps"
	"slices"
)

// Whole says where an answer shows anything but all objects of one commit that was pushed and could be carried out (P2, P3):
// one object too few would have been deleted by nobody's wish, one of another commit is half a commit.
func (h *History) Whole() error {
	v := violations{promise: "P2 a revision is applied whole or not at all"}
	for i := range h.Reads {
		r := &h.Reads[i]
		if err := h.whole(r); err != nil {
			v.add("%s: %w", r, err)
		}
	}
	for _, s := range h.Final {
		if err := h.exactly(s.Parts); err != nil {
			v.add("in the end server %s shows %w", s.Name, err)
		}
	}
	return v.err()
}

func (h *History) whole(r *Read) error {
	if r.Version != 0 {
		if err := h.exactly(r.Parts); err != nil {
			return err
		}
	}
	push, err := h.push(r.Generation())
	if err != nil {
		return err
	}
	if r.Ended < push.Began {
		return fmt.Errorf("generation %d is shown before it was pushed at %s", push.Generation, push.Began)
	}
	return nil
}

// exactly is an error unless parts are the objects of one good commit.
func (h *History) exactly(parts map[string]int) error {
	counts := map[int]int{}
	for _, generation := range parts {
		counts[generation]++
	}
	if len(counts) != 1 {
		return fmt.Errorf("objects of %d commits, by generation: %v", len(counts), counts)
	}
	generation := slices.Collect(maps.Keys(counts))[0]
	push, err := h.push(generation)
	if err != nil {
		return err
	}
	for i := range push.Parts {
		if _, ok := parts[partName(i)]; !ok {
			return fmt.Errorf("generation %d without %s", generation, partName(i))
		}
	}
	if len(parts) != push.Parts {
		return fmt.Errorf("%d objects of generation %d, which has %d", len(parts), generation, push.Parts)
	}
	return nil
}

// push is the commit of a generation that may be shown.
func (h *History) push(generation int) (Push, error) {
	if generation < 0 || generation >= len(h.Pushes) {
		return Push{}, fmt.Errorf("generation %d, which was never pushed", generation)
	}
	if push := h.Pushes[generation]; push.Parts > 0 {
		return push, nil
	}
	return Push{}, fmt.Errorf("generation %d, which had to be rejected", generation)
}

func partName(i int) string { return fmt.Sprintf("part-%d", i) }

// Generation is that of all objects of a read that is whole; -1 if it shows none.
func (r *Read) Generation() int {
	for _, generation := range r.Parts {
		return generation
	}
	return -1
}

func (r *Read) String() string {
	what := "list"
	if r.Version == 0 {
		what = "get"
	}
	return fmt.Sprintf("%s %s of %s by %s from %s to %s at version %d", r.Level, what, r.Server, r.Client, r.Began, r.Ended, r.Version)
}

// Adjacent says where an answer of any server shows anything but the last commit pushed or the one before. It is for runs that
// push a commit only once every server shows the one before.
func (h *History) Adjacent() error {
	v := violations{promise: "the active revision is always k or k+1"}
	for i := range h.Reads {
		r := &h.Reads[i]
		oldest, newest := 0, 0
		for _, p := range h.Pushes {
			if p.Began <= r.Began {
				oldest = p.Generation - 1
			}
			if p.Began <= r.Ended {
				newest = p.Generation
			}
		}
		for name, n := range r.Parts {
			if n < oldest || n > newest {
				v.add("%s: %s of generation %d, not of one of %d to %d", r, name, n, max(0, oldest), newest)
				break // the next answer tells more than the next object
			}
		}
	}
	return v.err()
}
