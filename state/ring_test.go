package state

import (
	"testing"
	"time"
)

// What a ring grew to in a busy moment, it lets go of when that is long past: each change holds an object that was superseded.
func TestRingForgetsOldChangesBeyondTheFewest(t *testing.T) {
	r, began, version := newRing(), time.Now(), Version(0)
	add := func(n int, at time.Time) {
		for range n {
			version++
			r.append([]change{{version: version}}, at)
		}
	}
	add(4*ringMin, began)
	add(1, began.Add(ringAge-time.Second))
	if r.n != 4*ringMin+1 || r.floor != 0 {
		t.Errorf("%d changes after %d are kept while the oldest is young, want all", r.n, r.floor)
	}
	add(1, began.Add(ringAge))
	if r.n != ringMin || r.floor != version-ringMin {
		t.Errorf("%d changes after %d are kept, want the newest %d, after %d", r.n, r.floor, ringMin, version-ringMin)
	}
	if oldest, newest := r.at(0).version, r.at(r.n-1).version; oldest != r.floor+1 || newest != version {
		t.Errorf("changes %d to %d are kept, want %d to %d", oldest, newest, r.floor+1, version)
	}
}

// A burst is kept as long as who reads along may need; for a whole minute it would be most of the memory there is.
func TestRingForgetsABurstSooner(t *testing.T) {
	r, began := newRing(), time.Now()
	burst := make([]change, 3*ringCalm)
	for i := range burst {
		burst[i].version = Version(i + 1)
	}
	r.append(burst, began)
	r.forget(began.Add(burstAge - time.Second))
	if r.n != len(burst) {
		t.Errorf("%d changes are kept in a burst, want all %d", r.n, len(burst))
	}
	r.forget(began.Add(burstAge))
	if r.n != ringCalm || r.floor != Version(len(burst)-ringCalm) {
		t.Errorf("%d changes after %d are kept after a burst, want the newest %d", r.n, r.floor, ringCalm)
	}
	r.forget(began.Add(ringAge))
	if r.n != ringMin {
		t.Errorf("%d changes are kept of long ago, want %d", r.n, ringMin)
	}
}
