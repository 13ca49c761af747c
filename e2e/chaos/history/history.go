// Package history is what clients of a cluster saw while it was hurt, and whether they may have seen that. It records nothing
// by itself and talks to nobody: a History can be kept in a file and judged again. Start at History.Judge.
package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// History is everything that was seen in one run. Times are counted from its begin.
//
// Every object of a commit carries the commit's number, its generation, so that a mix of two commits shows in one answer.
type History struct {
	Pushes  []Push   // by generation, from 0; of the first, everything had been seen when the record begins
	Reads   []Read   // in no order
	Watches []Watch  // one for each client that watched
	Tokens  []Token  // whose making was acknowledged
	Final   []Server // what each server said in the end
}

// Push is a commit that was brought to the repository.
type Push struct {
	Generation int
	Began      time.Duration // when nobody could have seen it yet
	// Parts is how many objects it declares: part-0, part-1 and so on. A commit of none is one that must be rejected.
	Parts int
}

// Level is how fresh an answer was asked for.
type Level string

const (
	Linear  Level = "linear"   // no resourceVersion: what holds now
	Local   Level = "local"    // resourceVersion=0: whatever the server has
	AtLeast Level = "at least" // resourceVersion=n: that, or anything newer
)

// Read is an answer about the objects of commits. A request that failed saw nothing and is not recorded.
type Read struct {
	Client, Server string
	Level          Level
	Began, Ended   time.Duration
	Wanted         uint64         // the version asked for by AtLeast
	Version        uint64         // of the store, as a list tells it; 0: a single object was asked for
	Parts          map[string]int // generation by name
}

// Watch is what one client was told of one kind, by whichever server it asked.
type Watch struct {
	Client, Kind string
	Segments     []Segment
}

// Segment begins with a list and goes on with its changes, from as many servers as the client went to, up to the next list.
type Segment struct {
	Version uint64            // of the list
	Objects map[string]uint64 // resourceVersion by name, in the list
	Events  []Event
	// Settled is a list taken once nothing changed any more and all its changes had been told; nil of all but the last.
	Settled map[string]uint64
}

// Event is one line of a watch. Type is Kubernetes'.
type Event struct {
	At         time.Duration
	Server     string
	Type       string
	Name       string
	Version    uint64
	Generation int // -1 of what belongs to no commit
}

// Token is a token to join by, and when its maker had the answer.
type Token struct {
	ID string
	At time.Duration
}

// Server is what a server said once everything had healed.
type Server struct {
	Name   string
	Parts  map[string]int // read locally
	Tokens []string
}

// Judge holds the history against everything that is promised. It returns nil, or an error for each promise that was broken.
func (h *History) Judge() error {
	return errors.Join(h.Whole(), h.Linearizable(), h.Fresh(), h.Ordered(), h.Watched(), h.Kept())
}

// Load reads a history that Save wrote.
func Load(path string) (*History, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	h := &History{}
	if err := json.Unmarshal(raw, h); err != nil {
		return nil, fmt.Errorf("read history %s: %w", path, err)
	}
	return h, nil
}

// Save writes the history to a file.
func (h *History) Save(path string) error {
	raw, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(path, raw, 0o644)
	}
	if err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	return nil
}

// maxViolations of one promise are told: one bug can break it a thousand times.
const maxViolations = 5

// violations of one promise.
type violations struct {
	promise string
	first   []error
	count   int
}

func (v *violations) add(format string, args ...any) {
	if v.count++; v.count <= maxViolations {
		v.first = append(v.first, fmt.Errorf(v.promise+": "+format, args...))
	}
}

// err is nil if there are none.
func (v *violations) err() error {
	if more := v.count - len(v.first); more > 0 {
		v.first = append(v.first, fmt.Errorf("%s: and %d more", v.promise, more))
	}
	return errors.Join(v.first...)
}
