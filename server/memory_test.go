package server

import (
	"testing"
	"time"
)

func TestGarbageIsKeptSmallWhereThatIsCheap(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		live, allocated uint64 // allocated within ten seconds
		want            int
	}{
		"small and calm": {live: 100 * mib, allocated: 0, want: gcPercent},
		"small and busy": {live: 100 * mib, allocated: 2000 * mib, want: gcPercent},
		"large and calm": {live: 200 * mib, allocated: 400 * mib, want: gcPercentCalm},
		"large and busy": {live: 200 * mib, allocated: 2000 * mib, want: gcPercent},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap{at: time.Now(), allocated: 7 * mib}
			now := heap{at: before.at.Add(10 * time.Second), live: tc.live, allocated: before.allocated + tc.allocated}
			if got := now.percent(before); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}
