package history

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const second = time.Second

// whole is what a list shows of a commit with that many parts.
func whole(generation, parts int) map[string]int {
	all := map[string]int{}
	for i := range parts {
		all[partName(i)] = generation
	}
	return all
}

// good is a history in which everything is right: generation 1 is pushed at 2 s and shown from 3 s on, 2 is rejected, 3 is
// pushed at 6 s and drops an object.
func good() *History {
	return &History{
		Pushes: []Push{{Parts: 2}, {Generation: 1, Began: 2 * second, Parts: 2}, {Generation: 2, Began: 4 * second}, {Generation: 3, Began: 6 * second, Parts: 1}},
		Reads: []Read{
			{Client: "a", Server: "s1", Level: Linear, Began: 1 * second, Ended: 2 * second, Version: 10, Parts: whole(0, 2)},
			{Client: "b", Server: "s2", Level: Linear, Began: 2 * second, Ended: 3 * second, Version: 12, Parts: whole(1, 2)},
			{Client: "a", Server: "s1", Level: Linear, Began: 4 * second, Ended: 5 * second, Parts: map[string]int{"part-1": 1}},
			{Client: "c", Server: "s3", Level: Local, Began: 4 * second, Ended: 5 * second, Version: 10, Parts: whole(0, 2)},
			{Client: "c", Server: "s3", Level: AtLeast, Wanted: 11, Began: 5 * second, Ended: 6 * second, Version: 12, Parts: whole(1, 2)},
			{Client: "a", Server: "s3", Level: Linear, Began: 8 * second, Ended: 9 * second, Version: 14, Parts: whole(3, 1)},
		},
		Watches: []Watch{{Client: "w", Kind: "configmaps", Segments: []Segment{
			{Version: 10, Objects: map[string]uint64{"part-0": 9, "part-1": 10}, Events: []Event{
				{At: 3 * second, Server: "s1", Type: "MODIFIED", Name: "part-0", Version: 11, Generation: 1},
				{At: 3 * second, Server: "s1", Type: "MODIFIED", Name: "part-1", Version: 12, Generation: 1},
				{At: 5 * second, Server: "s2", Type: "BOOKMARK", Version: 12, Generation: -1},
				{At: 8 * second, Server: "s2", Type: "MODIFIED", Name: "part-0", Version: 13, Generation: 3},
				{At: 8 * second, Server: "s2", Type: "DELETED", Name: "part-1", Version: 14, Generation: 1},
			}, Settled: map[string]uint64{"part-0": 13}},
		}}, {Client: "x", Kind: "configmaps", Segments: []Segment{
			{Version: 11, Objects: map[string]uint64{"part-0": 11, "part-1": 10}, Events: []Event{
				{At: 4 * second, Server: "s3", Type: "MODIFIED", Name: "part-1", Version: 12, Generation: 1},
				{At: 8 * second, Server: "s3", Type: "MODIFIED", Name: "part-0", Version: 13, Generation: 3},
			}},
		}}},
		Tokens: []Token{{ID: "t1", At: 3 * second}},
		Final:  []Server{{Name: "s1", Parts: whole(3, 1), Tokens: []string{"t1", "unsure"}}, {Name: "s2", Parts: whole(3, 1), Tokens: []string{"t1"}}},
	}
}

func TestGoodHistoryIsAcceptedAlsoFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.json")
	want := good()
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file holds another history:\n%s", diff)
	}
	if err := got.Judge(); err != nil {
		t.Error(err)
	}
	if err := got.Draw(filepath.Join(t.TempDir(), "drawn.html")); err != nil {
		t.Error(err)
	}
}

func TestBadHistoriesAreFound(t *testing.T) {
	const (
		p2, p10, register = "P2 ", "P10 ", "linearizable reads: "
		versions, watches = "versions are the same everywhere", "watches have no gap"
	)
	for name, tc := range map[string]struct {
		spoil func(h *History)
		judge func(h *History) error
		want  string
	}{
		"half a commit":                     {func(h *History) { h.Reads[1].Parts["part-0"] = 0 }, (*History).Whole, p2},
		"an object deleted by nobody":       {func(h *History) { delete(h.Reads[1].Parts, "part-0") }, (*History).Whole, "generation 1 without part-0"},
		"an object deleted too late":        {func(h *History) { h.Reads[5].Parts["part-1"] = 3 }, (*History).Whole, "2 objects of generation 3"},
		"nothing at all":                    {func(h *History) { h.Reads[3].Parts = nil }, (*History).Whole, "objects of 0 commits"},
		"a rejected commit":                 {func(h *History) { h.Reads[5].Parts = whole(2, 1) }, (*History).Whole, "had to be rejected"},
		"a commit from nowhere":             {func(h *History) { h.Reads[5].Parts = whole(4, 1) }, (*History).Whole, "never pushed"},
		"a commit before it is pushed":      {func(h *History) { h.Reads[0].Parts = whole(1, 2); h.Reads[0].Ended = second }, (*History).Whole, "before it was pushed"},
		"half a commit in the end":          {func(h *History) { h.Final[1].Parts = whole(1, 1) }, (*History).Whole, "in the end server s2"},
		"a stale read":                      {func(h *History) { h.Reads[2].Parts["part-1"] = 0 }, (*History).Linearizable, register},
		"a stale read after a local one":    {staleAfterLocal, (*History).Linearizable, register},
		"a stale read after an event":       {staleAfterEvent, (*History).Linearizable, register},
		"a commit that is taken back":       {takenBack, (*History).Linearizable, register},
		"an older version than was known":   {func(h *History) { h.Reads[5].Version = 11 }, (*History).Fresh, p10},
		"a version forgotten by the others": {func(h *History) { h.Reads[4].Version = 20 }, (*History).Fresh, p10},
		"an older version than asked for":   {func(h *History) { h.Reads[4].Version = 10 }, (*History).Ordered, "version 11 was asked for"},
		"a later version of an older state": {func(h *History) { h.Reads[3].Version = 13 }, (*History).Ordered, versions},
		"one version, two states":           {func(h *History) { h.Reads[3].Version = 12 }, (*History).Ordered, versions},
		"one version, two sets":             {func(h *History) { h.Reads[3].Parts, h.Reads[3].Version = whole(1, 1), 12 }, (*History).Ordered, "different objects"},
		"a lost token":                      {func(h *History) { h.Final[1].Tokens = nil }, (*History).Kept, "server s2 does not know it"},
		"an event twice":                    {func(h *History) { repeat(h, 1) }, (*History).Watched, watches},
		"an event late":                     {func(h *History) { swap(h, 0, 1) }, (*History).Watched, "after version 12"},
		"an event never":                    {func(h *History) { drop(h, 1) }, (*History).Watched, "never told MODIFIED part-1 of version 12"},
		"a deletion never":                  {func(h *History) { drop(h, 4) }, (*History).Watched, "adds up to"},
		"a bookmark that goes back":         {func(h *History) { events(h)[2].Version = 11 }, (*History).Watched, "a bookmark"},
		"an event behind a bookmark":        {func(h *History) { events(h)[2].Version = 13 }, (*History).Watched, "after version 13"},
		"an addition of what is there":      {func(h *History) { events(h)[0].Type = "ADDED" }, (*History).Watched, "there before: true"},
		"a change of what is not there":     {func(h *History) { events(h)[0].Name = "part-7" }, (*History).Watched, "there before: false"},
		"another event on another server":   {func(h *History) { events(h)[1].Generation = 0 }, (*History).Watched, "of generation 1, server"},
		"another end than what is there":    {func(h *History) { segment(h).Settled["part-0"] = 12 }, (*History).Watched, "adds up to"},
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			if err := tc.judge(h); err != nil {
				t.Fatalf("before it is spoilt: %v", err)
			}
			tc.spoil(h)
			if err := tc.judge(h); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the verdict is %v, want %q", err, tc.want)
			}
		})
	}
}

// TestNeitherKNorKPlusOneIsFound is about runs that push a commit once every server shows the one before.
func TestNeitherKNorKPlusOneIsFound(t *testing.T) {
	prompt := func() *History {
		h := good()
		h.Reads[3].Began, h.Reads[3].Ended = 2*second, 3*second
		return h
	}
	if err := prompt().Adjacent(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spoil func(h *History)
		want  string
	}{
		"one too old":                  {func(h *History) { h.Reads[5].Parts = whole(1, 2) }, "generation 1, not of one of 2 to 3"},
		"one object too old":           {func(h *History) { h.Reads[5].Parts["part-1"] = 1 }, "part-1 of generation 1"},
		"one too new":                  {func(h *History) { h.Reads[0].Parts = whole(3, 1) }, "generation 3, not of one of 0 to 1"},
		"one too old on one that lags": {func(h *History) { h.Reads[3] = good().Reads[3] }, "local list of s3"},
		"back again": {func(h *History) {
			h.Reads[4].Began, h.Reads[4].Ended, h.Reads[4].Parts = 9*second, 10*second, whole(1, 2)
		}, "at least list of s3"},
	} {
		t.Run(name, func(t *testing.T) {
			h := prompt()
			tc.spoil(h)
			if err := h.Adjacent(); err == nil || !strings.Contains(err.Error(), "k or k+1") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the verdict is %v, want %q", err, tc.want)
			}
		})
	}
}

// staleAfterLocal has a server show generation 3 locally before another shows 1 as what holds.
func staleAfterLocal(h *History) {
	h.Reads = append(h.Reads, Read{Client: "c", Server: "s3", Level: Local, Began: 6 * second, Ended: 7 * second, Version: 14, Parts: whole(3, 1)})
	h.Reads[5].Parts = whole(1, 2)
	h.Watches = nil
}

func takenBack(h *History) {
	h.Reads = append(h.Reads, Read{Client: "a", Server: "s3", Level: Linear, Began: 10 * second, Ended: 11 * second, Version: 15, Parts: whole(1, 2)})
}

func staleAfterEvent(h *History) {
	events(h)[3].At = 7 * second
	h.Reads[5].Parts = whole(1, 2)
}

func segment(h *History) *Segment { return &h.Watches[0].Segments[0] }

func events(h *History) []Event { return segment(h).Events }

func repeat(h *History, i int) { segment(h).Events = append(events(h)[:i+1], events(h)[i:]...) }

func swap(h *History, i, j int) { e := events(h); e[i], e[j] = e[j], e[i] }

func drop(h *History, i int) { segment(h).Events = append(events(h)[:i], events(h)[i+1:]...) }

// What may have happened or not is not held against anybody.
func TestUncertainOutcomesAreAccepted(t *testing.T) {
	for name, change := range map[string]func(h *History){
		"a commit is passed over":                   func(h *History) { h.Pushes[2].Parts = 1 },
		"two reads beside a push differ":            func(h *History) { beside(h, 1); beside(h, 0) },
		"a local read lags":                         func(h *History) { h.Reads[3].Ended = 9 * second },
		"a token nobody acknowledged is there":      func(h *History) { h.Final[0].Tokens = append(h.Final[0].Tokens, "t2") },
		"a linearizable read spans an activation":   func(h *History) { h.Reads[0].Ended = 9 * second },
		"a client lists again and hears no more":    func(h *History) { again(h) },
		"a watch that was told nothing misses none": func(h *History) { h.Watches[1].Segments[0].Events = nil },
	} {
		t.Run(name, func(t *testing.T) {
			h := good()
			change(h)
			if err := h.Judge(); err != nil {
				t.Error(err)
			}
		})
	}
}

// beside adds a read while generation 1 comes into force.
func beside(h *History, generation int) {
	h.Reads = append(h.Reads, Read{Client: "d", Server: "s1", Level: Linear, Began: 2*second + 1, Ended: 3 * second, Version: 10 + 2*uint64(generation), Parts: whole(generation, 2)})
}

func again(h *History) {
	w := &h.Watches[1]
	w.Segments = append(w.Segments, Segment{Version: 14, Objects: maps.Clone(segment(h).Settled)})
}
