package raftlog_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

const (
	killPoint = "MAINSTAY_TEST_KILL_POINT" // tells the child where to die
	killCount = "MAINSTAY_TEST_KILL_COUNT" // and when it gets there for which time
)

// pointToDieAt makes the process die, as by kill -9, at the point that it was told; nil if it was told none.
func pointToDieAt() func(string) error {
	wanted := os.Getenv(killPoint)
	if wanted == "" {
		return nil
	}
	count, err := strconv.ParseInt(os.Getenv(killCount), 10, 64)
	if err != nil {
		panic(err)
	}
	var left atomic.Int64
	left.Store(count)
	return func(point string) error {
		if point == wanted && left.Add(-1) == 0 {
			fmt.Println("dies", point)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
}

// points are what happens to the disk of a server that leads, and how often it is let happen: a transaction is two staged parts
// and the flip that makes them take effect.
var points = map[string]int{
	"append an entry of raft's own": 2, "append a term": 1, "append a part": 4, "append a flip": 2,
	"apply a term": 1, "apply a part": 4, "apply a flip": 2, "save the term": 2, "save the vote": 1,
	"write a snapshot": 1, "finish a snapshot": 1, "seal a snapshot": 1, "trim the log": 1,
}

// P2 and P10, at each step of staging, activation and snapshots.
func TestKilledAtEachStepTheStateIsOneTransactionOrTheNext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	acked := 0
	for doing, times := range points {
		for n := range times {
			for _, when := range []string{"before ", "after "} {
				cmd, lines := writer(t, dir, killPoint+"="+when+doing, fmt.Sprint(killCount, "=", n+1))
				said, err := io.ReadAll(lines)
				if err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // It was killed.
				printed, died := strings.CutSuffix(string(said), "dies "+when+doing+"\n")
				if !died {
					t.Fatalf("%s%s: the writer never came there for the %d. time, and said %q", when, doing, n+1, said)
				}
				acked = checkWhole(t, dir, max(acked, lastNumber(printed)))
			}
		}
	}
	if acked < len(points) {
		t.Errorf("only %d transactions: that means nothing", acked)
	}
}
