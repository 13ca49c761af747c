package raftlog_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

const (
	killDir       = "MAINSTAY_TEST_KILL_DIR" // tells a child of the test binary to write there until it is killed
	killObjects   = 24                       // of killObjectSize each: a transaction of two staged parts
	killSize      = 25_000
	killTime      = 35 * time.Second
	killSnapshots = 3 << 20     // so that kills also hit snapshots and the trimming of the log
	killPatience  = time.Minute // for a child that says nothing: a busy machine's, not a log that never leads
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes one numbered transaction after the other and prints each number once it is acknowledged.
func writeUntilKilled(dir string) error {
	s, err := startBreaking(dir, killSnapshots, pointToDieAt())
	if err != nil {
		return err
	}
	if err := s.TrimSoon(); err != nil {
		return err
	}
	ctx := context.Background()
	if err := s.store.Leading(ctx); err != nil {
		return err
	}
	fmt.Println("leading")
	for {
		number := -1
		if _, err := s.store.Update(ctx, func(tx *state.Txn) error {
			number = writeNext(tx)
			return nil
		}); err != nil {
			return err
		}
		fmt.Println(number)
	}
}

// writeNext makes every object carry the next number.
func writeNext(tx *state.Txn) int {
	first, ok := state.Get[*corev1.ConfigMap](tx, state.Key{Namespace: "default", Name: "cm0"})
	if !ok {
		for i := range killObjects {
			tx.Create(configMap(fmt.Sprint("cm", i), numbered(1)))
		}
		return 1
	}
	number := numberOf(first) + 1
	for cm := range state.List[*corev1.ConfigMap](tx, "default") {
		cm = cm.DeepCopy()
		cm.Data["v"] = numbered(number)
		tx.Update(cm)
	}
	return number
}

func numbered(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("x", killSize)) }

func numberOf(cm *corev1.ConfigMap) int {
	digits, _, _ := strings.Cut(cm.Data["v"], " ")
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(err)
	}
	return n
}

// P2 and P10: whenever the process dies, the state is that of the last acknowledged transaction or of the one under way.
func TestKilledAtAnyInstantTheStateIsOneTransactionOrTheNext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	kills := 100
	if testing.Short() {
		kills = 10
	}
	acked, done := 0, 0
	pace := paceOf(t, filepath.Join(t.TempDir(), "raft"))
	for start := time.Now(); done < kills && time.Since(start) < killTime; done++ {
		if n := runAndKill(t, dir, time.Duration(rand.Int64N(int64(3*pace)))); n > 0 {
			acked = n
		}
		acked = checkWhole(t, dir, acked)
	}
	t.Logf("%d transactions over %d kills, %v each", acked, done, pace)
	if done < 10 || acked < done/4 {
		t.Errorf("only %d transactions over %d kills: that means nothing", acked, done)
	}
}

// writer starts a child that writes to dir. It lives for killPatience at most, and never longer than the test.
func writer(t *testing.T, dir string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), killDir+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // Most have been waited for.
	})
	return cmd, bufio.NewReader(out)
}

// expect reads one line of a writer.
func expect(t *testing.T, lines *bufio.Reader, want string) {
	t.Helper()
	if line, err := lines.ReadString('\n'); err != nil || line != want+"\n" {
		t.Fatalf("the writer said %q, %v; want %q", line, err, want)
	}
}

// paceOf is how long one transaction takes here and now: kills at random within a few of them hit all there is to hit.
func paceOf(t *testing.T, dir string) time.Duration {
	t.Helper()
	cmd, lines := writer(t, dir)
	expect(t, lines, "leading")
	start := time.Now()
	expect(t, lines, "1")
	expect(t, lines, "2")
	pace := time.Since(start) / 2
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return pace
}

// runAndKill starts a writer, kills it a while after it began to lead, or, one time in five, after it was started, and
// returns the last number that it saw acknowledged, 0 for none.
func runAndKill(t *testing.T, dir string, after time.Duration) int {
	t.Helper()
	cmd, lines := writer(t, dir)
	if rand.IntN(5) > 0 {
		expect(t, lines, "leading")
	}
	time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	printed, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.
	return lastNumber(string(printed))
}

// lastNumber is the last complete line that is a number.
func lastNumber(printed string) int {
	complete := printed[:strings.LastIndex(printed, "\n")+1]
	fields := strings.Fields(complete)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(fields[len(fields)-1])
	return n
}

// checkWhole opens dir as the next server would and returns the number that all objects carry.
func checkWhole(t *testing.T, dir string, acked int) int {
	t.Helper()
	s, err := start(dir, 0)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	defer s.stop()
	s.awaitLeading(t)
	numbers := map[int]int{}
	for cm := range state.List[*corev1.ConfigMap](s.store.View(), "default") {
		numbers[numberOf(cm)]++
	}
	if len(numbers) == 0 && acked == 0 {
		return 0
	}
	if len(numbers) != 1 {
		t.Fatalf("objects by transaction: %v; want all of one (P2)", numbers)
	}
	for n, objects := range numbers {
		if objects != killObjects || n < acked || n > acked+1 {
			t.Fatalf("%d objects at transaction %d after %d was acknowledged (P10)", objects, n, acked)
		}
		return n
	}
	panic("unreachable")
}

// Raft's own bootstrap writes the term first and the members then; killed in between, it takes the log for one that has members.
func TestKilledBetweenTheTermAndTheMembers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.SetUint64([]byte("CurrentTerm"), 1), db.Close()); err != nil {
		t.Fatal(err)
	}
	open(t, dir) // and it leads
}
