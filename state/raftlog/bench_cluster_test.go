package raftlog

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

// BenchmarkThreeServersDurableWrites creates 2 kB objects by many callers; each is on a majority's disks when its call returns.
func BenchmarkThreeServersDurableWrites(b *testing.B) {
	members, _ := three(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	used := processorTime(b)
	b.ResetTimer()
	for range 1024 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := members[0].create(fmt.Sprint("cm", i), 1900); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	b.ReportMetric(float64(b.N)/(processorTime(b)-used).Seconds(), "objects/cpu-s")
}

// BenchmarkThreeServersTransaction writes 4 000 objects of 2 kB as one transaction, as the activation of a commit does.
func BenchmarkThreeServersTransaction(b *testing.B) {
	members, _ := three(b)
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		began := time.Now()
		if err := members[0].createMany(fmt.Sprint("cm", i), 4000, 1900); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	reportSpread(b, took)
}

func (m *member) createMany(prefix string, n, size int) error {
	value := strings.Repeat("x", size)
	_, err := m.store.Update(m.ctx, func(tx *state.Txn) error {
		for i := range n {
			tx.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint(prefix, "-", i)}, Data: map[string]string{"v": value}})
		}
		return nil
	})
	return err
}

// reportSpread reports the median, the 99th percentile and the maximum.
func reportSpread(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	for name, at := range map[string]int{"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "max-ms": len(took) - 1} {
		b.ReportMetric(float64(took[at].Microseconds())/1000, name)
	}
}

// BenchmarkHandOver measures from the moment a leader is told to hand over until another one has written.
func BenchmarkHandOver(b *testing.B) {
	members, _ := cluster(b, 0)
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		old := leaderOf(b, members...)
		began := time.Now()
		if err := old.HandOver(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := leaderOf(b, others(members, old)...).create(fmt.Sprint("cm", i), 1900); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	reportSpread(b, took)
}

// BenchmarkLostLeader measures from the moment a leader is gone from the network until another one has written.
func BenchmarkLostLeader(b *testing.B) {
	members, network := cluster(b, 0)
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		victim := leaderOf(b, members...)
		began := time.Now()
		network.isolate(victim.address())
		left := others(members, victim)
		err := state.ErrNotLeader
		for err != nil {
			err = leaderOf(b, left...).create(fmt.Sprint("cm", i), 1900)
		}
		took = append(took, time.Since(began))
		network.heal()
		for index := left[0].raft.LastIndex(); victim.raft.LastIndex() < index; {
			time.Sleep(time.Millisecond)
		}
	}
	reportSpread(b, took)
}

// BenchmarkRestart measures from the start of a server with a state of 500 MB until it writes.
func BenchmarkRestart(b *testing.B) {
	cfg := Config{Dir: filepath.Join(b.TempDir(), "raft"), ID: "s1", Bootstrap: true}
	m := newMember(b, cfg)
	m.awaitLeading(b)
	for i := range 64 {
		if err := m.createMany(fmt.Sprint("cm", i), 4000, 1900); err != nil {
			b.Fatal(err)
		}
	}
	m.end()
	used := processorTime(b)
	b.ResetTimer()
	for range b.N {
		again := newMember(b, cfg)
		again.awaitLeading(b)
		again.end()
	}
	b.ReportMetric((processorTime(b)-used).Seconds()/float64(b.N), "cpu-s/op")
}

// processorTime is what this process has used: on a machine that others use, too, it says more than the time that passed.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkCatchUp measures how long a follower needs that missed 100 000 versions, and what the leader's writes suffer.
func BenchmarkCatchUp(b *testing.B) {
	members, network := three(b)
	leader, follower := members[0], members[2]
	var caughtUp time.Duration
	var alone, meanwhile []time.Duration
	for i := range b.N {
		network.isolate(follower.address())
		for j := range 25 {
			if err := leader.createMany(fmt.Sprint("missed", i, "-", j), 4000, 1900); err != nil {
				b.Fatal(err)
			}
		}
		for j := range 500 {
			alone = append(alone, leader.timed(b, fmt.Sprint("alone", i, "-", j)))
		}
		network.heal()
		began, missed := time.Now(), leader.store.View().Index
		for j := 0; follower.store.View().Index < missed; j++ {
			meanwhile = append(meanwhile, leader.timed(b, fmt.Sprint("meanwhile", i, "-", j)))
		}
		caughtUp += time.Since(began)
	}
	b.ReportMetric(caughtUp.Seconds()/float64(b.N), "s/catch-up")
	slices.Sort(alone)
	slices.Sort(meanwhile)
	b.ReportMetric(float64(alone[len(alone)*99/100].Microseconds())/1000, "alone-p99-ms")
	b.ReportMetric(float64(meanwhile[len(meanwhile)*99/100].Microseconds())/1000, "meanwhile-p99-ms")
}

// timed creates one object and says how long that took.
func (m *member) timed(b *testing.B, name string) time.Duration {
	b.Helper()
	began := time.Now()
	if err := m.create(name, 1900); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}
