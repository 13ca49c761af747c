package node

import (
	"fmt"
	"testing"
)

// A server refuses a request that is larger than what it takes from a node at once, however often it is repeated.
func TestEventsAreSentInBatches(t *testing.T) {
	r := newRecorder("n1", nil, quiet())
	for i := range 250 {
		r.normal(aPod(fmt.Sprint("p", i)), "", "Started", "one")
	}
	seen := map[eventKey]bool{}
	for _, want := range []int{100, 100, 50, 0} {
		batch := r.take()
		if len(batch) != want {
			t.Errorf("%d events at once, want %d", len(batch), want)
		}
		for _, key := range batch {
			seen[key] = true
		}
	}
	if len(seen) != 250 {
		t.Errorf("%d events were sent, want each of 250", len(seen))
	}
}
