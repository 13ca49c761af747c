package server

import (
	"testing"
	"time"
)

func TestGarbageIsKeptSmallWhereThatIsCheap(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		live, allocated uint64 // allocated in each second, all the time
		want            int
	}{
		"small and calm":                  {live: 100 * mib, allocated: 0, want: gcPercent},
		"small and busy":                  {live: 100 * mib, allocated: 200 * mib, want: gcPercent},
		"large and calm":                  {live: 200 * mib, allocated: 40 * mib, want: gcPercentCalm},
		"large and busy":                  {live: 200 * mib, allocated: 200 * mib, want: gcPercentBusy},
		"very large and busy":             {live: 700 * mib, allocated: 200 * mib, want: 64}, // 450 MiB of room
		"huge and busy":                   {live: 1000 * mib, allocated: 200 * mib, want: gcPercent},
		"huge and calm":                   {live: 2000 * mib, allocated: 40 * mib, want: gcPercentCalm},
		"beyond what is bounded and busy": {live: 2000 * mib, allocated: 200 * mib, want: gcPercent},
	} {
		t.Run(name, func(t *testing.T) {
			now := heap{at: time.Now(), live: tc.live}
			g := allowance{seen: now, percent: gcPercent}
			for range 20 {
				now.at = now.at.Add(time.Second)
				now.allocated += tc.allocated
				g.see(now)
			}
			if g.percent != tc.want {
				t.Errorf("%d, want %d", g.percent, tc.want)
			}
		})
	}
}

// A burst is served at once; only what has been calm for a while counts as calm.
func TestHeapIsBusyAtOnceAndCalmAfterAWhile(t *testing.T) {
	const mib = 1 << 20
	now := heap{at: time.Now(), live: 200 * mib}
	g := allowance{seen: now, percent: gcPercent}
	after := func(allocated uint64) (changed bool) {
		now.at = now.at.Add(time.Second)
		now.allocated += allocated
		return g.see(now)
	}
	after(mib)
	if g.percent != gcPercentCalm {
		t.Errorf("%d at first, want %d", g.percent, gcPercentCalm)
	}
	if !after(500*mib) || g.percent != gcPercentBusy {
		t.Errorf("%d in the first second of a burst, want %d", g.percent, gcPercentBusy)
	}
	for second := time.Second; second < calmAfter; second += time.Second {
		if after(mib) {
			t.Errorf("changed to %d only %s after a burst", g.percent, second)
		}
	}
	if !after(mib) || g.percent != gcPercentCalm {
		t.Errorf("%d long after a burst, want %d", g.percent, gcPercentCalm)
	}
}
