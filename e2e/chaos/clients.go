package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mainstay-cluster/mainstay/e2e/chaos/history"
)

// clients are all who look on.
type clients struct {
	readers  []*reader
	watchers []*watcher
	prober   *prober
	tokens   func(context.Context)
	all      sync.WaitGroup
}

// clientStream keeps clients' dice apart from those of faults and pushes.
const clientStream = 1 << 33

// newClients has two readers for each server, and two watchers of each kind.
func (c *cluster) newClients(seed uint64) *clients {
	stream := uint64(clientStream)
	dice := func() *rand.Rand {
		stream++
		return rand.New(rand.NewPCG(seed, stream))
	}
	var all clients
	for _, s := range c.servers {
		for i := range 2 {
			name := fmt.Sprintf("reader %d of %s", i+1, s.name)
			all.readers = append(all.readers, &reader{client: c.newClient(name), server: s, dice: dice(), record: c.record, now: c.now})
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(watched)) {
		for i := range 2 {
			name := fmt.Sprintf("watcher %d of %s", i+1, kind)
			all.watchers = append(all.watchers, &watcher{client: c.newClient(name), kind: kind, servers: c.servers, dice: dice(), now: c.now})
		}
	}
	all.prober = &prober{client: c.newClient("prober"), servers: c.servers}
	makers := dice()
	all.tokens = func(ctx context.Context) { c.makeTokens(ctx, makers) }
	return &all
}

func (c *cluster) record(r history.Read) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history.Reads = append(c.history.Reads, r)
}

// begin has all look on until ctx ends.
func (a *clients) begin(ctx context.Context) {
	for _, r := range a.readers {
		a.all.Go(func() { r.reads(ctx) })
	}
	for _, w := range a.watchers {
		a.all.Go(func() { w.watches(ctx) })
	}
	a.all.Go(func() { a.prober.probe(ctx) })
	a.all.Go(func() { a.tokens(ctx) })
}

// end waits until all have ended, and takes in what watchers saw.
func (a *clients) end(c *cluster) {
	a.all.Wait()
	for _, w := range a.watchers {
		c.history.Watches = append(c.history.Watches, history.Watch{Client: w.name, Kind: w.kind, Segments: w.segments})
	}
}

// maxTokenGap is the longest between two tokens.
const maxTokenGap = 3 * time.Second

// makeTokens makes tokens on random servers until ctx ends: writes whose acknowledgement somebody holds.
func (c *cluster) makeTokens(ctx context.Context, dice *rand.Rand) {
	for sleep(ctx, upTo(dice, maxTokenGap)) {
		s := c.servers[dice.IntN(len(c.servers))]
		bounded, cancel := context.WithTimeout(ctx, answering)
		token, err := s.command(bounded, "token", "create", "--role", "agent", "--data-dir", s.data)
		cancel()
		if err != nil {
			continue // perhaps made, perhaps not: nobody was told
		}
		c.mu.Lock()
		c.history.Tokens = append(c.history.Tokens, history.Token{ID: strings.Split(token, ".")[2], At: c.now()})
		c.mu.Unlock()
	}
}

// final records what each server says in the end, once nobody writes any more.
func (c *cluster) final() error {
	for _, s := range c.servers {
		read := history.Read{Parts: map[string]int{}}
		r := reader{client: c.asker, server: s}
		// What holds now is shown by a server that has all that was acknowledged before; tokens are listed as it has them.
		if err := r.whole(context.Background(), &history.Read{Parts: map[string]int{}}); err != nil {
			return err
		}
		if err := r.local(context.Background(), &read); err != nil {
			return err
		}
		listed, err := s.command(context.Background(), "token", "list", "--data-dir", s.data)
		if err != nil {
			return err
		}
		said := history.Server{Name: s.name, Parts: read.Parts}
		for line := range strings.Lines(listed) {
			said.Tokens = append(said.Tokens, strings.Fields(line)[0])
		}
		c.history.Final = append(c.history.Final, said)
	}
	return nil
}

// verdict judges the record, and keeps it if it is refused.
func (c *cluster) verdict() error {
	err := c.history.Judge()
	if err == nil && !c.t.Failed() {
		return nil
	}
	c.check(c.history.Save(filepath.Join(c.dir, "history.json")))
	c.check(c.history.Draw(filepath.Join(c.dir, "linearizability.html")))
	return err
}

// report tells what was done and seen.
func (c *cluster) report(a *clients) {
	failed, moves, lists, events := 0, 0, 0, 0
	for _, r := range a.readers {
		failed += r.failed
	}
	for _, w := range a.watchers {
		moves += w.moves
		lists += len(w.segments)
		for _, s := range w.segments {
			events += len(s.Events)
		}
	}
	for _, line := range c.done {
		c.t.Log(line)
	}
	c.t.Logf("faults: %v", c.counts)
	c.t.Logf("%d commits pushed, %d reads (%d requests failed), %d events by %d watches after %d lists, %d tokens acknowledged",
		len(c.history.Pushes), len(c.history.Reads), failed, events, moves, lists, len(c.history.Tokens))
	c.t.Logf("prober: %d answers, the longest time without one %s; nodes: %d requests failed", a.prober.answers, a.prober.longest.Round(time.Millisecond), c.nodes.failed.Load())
}
