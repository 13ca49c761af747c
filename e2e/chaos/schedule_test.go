package chaos

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSeedAndLaneDecideTheSchedule(t *testing.T) {
	const within = 10 * time.Minute
	want := Schedule(7, 0, within)
	if diff := cmp.Diff(want, Schedule(7, 0, within)); diff != "" {
		t.Errorf("the same seed gives another schedule:\n%s", diff)
	}
	for name, other := range map[string][]Fault{"seed": Schedule(8, 0, within), "lane": Schedule(7, 1, within)} {
		if cmp.Equal(want, other) {
			t.Errorf("another %s gives the same schedule", name)
		}
	}
}

func TestScheduleFillsTheTimeWithFaultsOfEveryKind(t *testing.T) {
	const within = 10 * time.Minute
	var took time.Duration
	kinds, whom := map[Kind]int{}, map[Whom]int{}
	for _, f := range Schedule(1, 0, within) {
		took += f.Rest + f.Hold
		kinds[f.Kind]++
		whom[f.Whom]++
	}
	if took > within || took < within-time.Minute/2 {
		t.Errorf("the schedule takes %s of %s", took, within)
	}
	if len(kinds) != len(menu) || len(whom) != 3 {
		t.Errorf("kinds %v of %d, whom %v of 3", kinds, len(menu), whom)
	}
}
