//go:build chaos

package chaos

import (
	"flag"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/e2e/chaos/history"
)

var (
	duration = flag.Duration("duration", 2*time.Minute, "how long servers are hurt, in all tests together")
	seed     = flag.Uint64("seed", 0, "decides what is done; 0: the clock does")
	kills    = flag.Int("kills", 0, "how many leaders are killed during activations, however long that takes; 0: as many as there is time for")
	recorded = flag.String("history", "", "a history.json to judge again, instead of all else")
)

// ample is more than the kills of any number take that somebody would wait for.
const ample = 24 * time.Hour

// options has a share of the time, in percent.
func options(servers int, share time.Duration) Options {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	return Options{Servers: servers, Seed: *seed, For: *duration * share / 100}
}

func TestThreeServers(t *testing.T) { Run(t, options(3, 35)) }

func TestFiveServers(t *testing.T) { Run(t, options(5, 25)) }

func TestLeadersKilledDuringActivations(t *testing.T) {
	o, most := options(3, 20), math.MaxInt
	if *kills > 0 {
		o.For, most = ample, *kills
	}
	if KillLeaders(t, o, most) == 0 {
		t.Error("there was no time to kill a leader")
	}
}

func TestStepsOfAnActivationAndAHandOver(t *testing.T) {
	if TakeSteps(t, options(3, 20)) == 0 {
		t.Error("there was no time for a step")
	}
}

func TestRecordedHistory(t *testing.T) {
	if *recorded == "" {
		return
	}
	h, err := history.Load(*recorded)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Judge(); err != nil {
		t.Error(err)
	}
	if err := h.Draw(filepath.Join(filepath.Dir(*recorded), "linearizability.html")); err != nil {
		t.Error(err)
	}
}
