package server

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// gcPercent lets garbage grow to half of what is alive, where Go's own choice is as much again: taking in 4 000 objects
	// then peaks a tenth lower, in the same time.
	gcPercent = 50
	// gcPercentCalm is for a heap of more than largeHeap of which little becomes garbage: with 2 000 nodes and 20 000 Pods it saves 80 MB
	// of 550. Of a small heap it would save nothing that counts.
	gcPercentCalm = 25
	// gcPercentBusy is for one of which much becomes garbage: to collect it as often would take a third of all that a burst of Pods takes.
	// There is less where what is alive and garbage would be more than heapBusy, for a server of 5 000 nodes and 150 000 Pods is to stay
	// below 1.5 GB, but never less than half of what is alive.
	gcPercentBusy = 100
	heapBusy      = 1150 << 20
	largeHeap     = 128 << 20
	// busy is how many bytes must be allocated in a second; a heap where they are not is calm after a while. 2 000 nodes of which 200 Pods
	// change in a second allocate half as many, and as soon as thousands of Pods start it is more.
	busy      = 128 << 20
	calmAfter = 10 * time.Second
)

// keepGarbageSmall trades a little processor time for memory, unless $GOGC says otherwise.
func keepGarbageSmall() {
	setGCPercent(gcPercent)
}

func setGCPercent(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// heap is what the runtime counts.
type heap struct {
	at        time.Time
	live      uint64 // bytes, when they were last collected
	allocated uint64 // bytes, ever
}

func readHeap() heap {
	samples := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	runtimemetrics.Read(samples)
	return heap{time.Now(), samples[0].Value.Uint64(), samples[1].Value.Uint64()}
}

// allowance is how much garbage there may be.
type allowance struct {
	seen    heap
	busyAt  time.Time // when it was busy last
	percent int       // of what is alive
}

// see takes in what the heap is now, and says whether that changes how much garbage there may be.
func (g *allowance) see(now heap) (changed bool) {
	rate := float64(now.allocated-g.seen.allocated) / now.at.Sub(g.seen.at).Seconds()
	if rate >= busy {
		g.busyAt = now.at
	}
	before := g.percent
	g.seen, g.percent = now, gcPercent
	if now.live > largeHeap && now.at.Sub(g.busyAt) >= calmAfter {
		g.percent = gcPercentCalm
	} else if now.live > largeHeap {
		room := (heapBusy - int64(now.live)) * 100 / int64(now.live)
		g.percent = int(min(max(room, gcPercent), gcPercentBusy))
	}
	return g.percent != before
}

// lookEvery is how often the heap is looked at: a burst of thousands of Pods is over within seconds.
const lookEvery = time.Second

// keepGarbageRight lets there be as much garbage as befits the heap, until ctx ends.
func (s *server) keepGarbageRight(ctx context.Context) error {
	g := allowance{seen: readHeap(), percent: gcPercent}
	for {
		select {
		case <-time.After(lookEvery):
			if g.see(readHeap()) {
				setGCPercent(g.percent)
				giveBack(g.percent)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// forgetEvery is how often feeds let go of what nobody should need any more.
const forgetEvery = 10 * time.Second

// keepForgetting is for a store that nothing is written to any more after a burst, until ctx ends.
func (s *server) keepForgetting(ctx context.Context) error {
	for {
		select {
		case <-time.After(forgetEvery):
			s.store.ForgetOld()
		case <-ctx.Done():
			return nil
		}
	}
}

// giveBack returns what a burst has left free, of which the runtime would keep a tenth of the heap and more for minutes.
func giveBack(percent int) {
	if percent == gcPercentCalm {
		debug.FreeOSMemory()
	}
}
