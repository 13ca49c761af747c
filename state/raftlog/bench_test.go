package raftlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/state"
)

// BenchmarkDurableWrites creates 2 kB objects on one server with fsync on. The single caller is compared with one fsync of
// 4 kB appended to a file on the same disk, taken in the same run.
func BenchmarkDurableWrites(b *testing.B) {
	value := strings.Repeat("x", 1900)
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "raft"))
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						s.put(b, fmt.Sprint("cm", i), value)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
			if callers == 1 {
				b.StopTimer()
				perWrite := b.Elapsed() / time.Duration(b.N)
				b.ReportMetric(float64(perWrite)/float64(fsync(b, b.N)), "fsyncs/op")
			}
		})
	}
}

// BenchmarkDurableTransaction writes 1000 objects of 2 kB per transaction: larger than an entry, so in parts.
func BenchmarkDurableTransaction(b *testing.B) {
	value := strings.Repeat("x", 1900)
	s := open(b, filepath.Join(b.TempDir(), "raft"))
	b.ResetTimer()
	for i := range b.N {
		if _, err := s.store.Update(b.Context(), func(tx *state.Txn) error {
			for j := range 1000 {
				tx.Create(configMap(fmt.Sprintf("cm%d-%d", i, j), value))
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

// fsync is the mean time of appending 4 kB to a file and syncing it.
func fsync(b *testing.B, n int) time.Duration {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	start := time.Now()
	for range n {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / time.Duration(n)
}
