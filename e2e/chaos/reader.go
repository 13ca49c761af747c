package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mainstay-cluster/mainstay/e2e/chaos/history"
)

const (
	// partsPath is where the objects of commits are; nobody else has any there.
	partsPath = "/api/v1/namespaces/default/configmaps"
	// maxPause is the longest between two reads of a client.
	maxPause = 80 * time.Millisecond
	pageSize = 7 // so that some commits take one page, and others many
)

// configMap is what is read of one.
type configMap struct {
	Metadata struct{ Name, ResourceVersion string }
	Data     struct{ Generation string }
}

func (m configMap) generation() int {
	n, err := strconv.Atoi(m.Data.Generation)
	if err != nil {
		return -1
	}
	return n
}

// page is a list or a part of one.
type page struct {
	Metadata struct{ ResourceVersion, Continue string }
	Items    []configMap
}

// reader reads one server all the time.
type reader struct {
	*client
	server *server
	dice   *rand.Rand
	newest uint64 // version that it has seen
	failed int    // requests, as they may while servers are hurt
	record func(history.Read)
	now    func() time.Duration
}

// reads has a client read until ctx ends.
func (r *reader) reads(ctx context.Context) {
	ways := []func(context.Context, *history.Read) error{r.whole, r.whole, r.pages, r.one, r.local, r.atLeast}
	for sleep(ctx, upTo(r.dice, maxPause)) {
		read := history.Read{Client: r.name, Server: r.server.name, Level: history.Linear, Parts: map[string]int{}, Began: r.now()}
		err := ways[r.dice.IntN(len(ways))](ctx, &read)
		read.Ended = r.now()
		if err != nil {
			r.failed++
			continue
		}
		r.newest = max(r.newest, read.Version)
		r.record(read)
	}
}

// whole is all parts as they are now.
func (r *reader) whole(ctx context.Context, read *history.Read) error {
	return r.list(ctx, read, "")
}

// pages is the same, some at a time.
func (r *reader) pages(ctx context.Context, read *history.Read) error {
	next := ""
	for {
		query := "?limit=" + strconv.Itoa(pageSize) + "&continue=" + url.QueryEscape(next)
		var err error
		if next, err = r.page(ctx, read, query); err != nil || next == "" {
			return err
		}
	}
}

func (r *reader) local(ctx context.Context, read *history.Read) error {
	read.Level = history.Local
	return r.list(ctx, read, "?resourceVersion=0")
}

func (r *reader) atLeast(ctx context.Context, read *history.Read) error {
	read.Level, read.Wanted = history.AtLeast, max(1, r.newest)
	return r.list(ctx, read, fmt.Sprintf("?resourceVersion=%d", read.Wanted))
}

// one is a single object, of those that every commit has.
func (r *reader) one(ctx context.Context, read *history.Read) error {
	var m configMap
	err := r.get(ctx, r.server, fmt.Sprintf("%s/part-%d", partsPath, r.dice.IntN(fewParts)), &m)
	if missing := (*refusal)(nil); errors.As(err, &missing) && missing.code == http.StatusNotFound {
		err = nil // it is always there: the record shows that it was not
	} else if err == nil {
		read.Parts[m.Metadata.Name] = m.generation()
	}
	return err
}

func (r *reader) list(ctx context.Context, read *history.Read, query string) error {
	_, err := r.page(ctx, read, query)
	return err
}

// page adds to what was read, and returns where the next page begins.
func (r *reader) page(ctx context.Context, read *history.Read, query string) (next string, err error) {
	var p page
	if err := r.get(ctx, r.server, partsPath+query, &p); err != nil {
		return "", err
	}
	for _, m := range p.Items {
		read.Parts[m.Metadata.Name] = m.generation()
	}
	read.Version, err = strconv.ParseUint(p.Metadata.ResourceVersion, 10, 64)
	return p.Metadata.Continue, err
}

// shows is an error unless a server has all objects of a generation.
func (c *cluster) shows(s *server, generation int) error {
	r := reader{client: c.asker, server: s}
	read := history.Read{Parts: map[string]int{}}
	if err := r.local(context.Background(), &read); err != nil {
		return err
	}
	c.mu.Lock()
	want := c.history.Pushes[generation].Parts
	c.mu.Unlock()
	if len(read.Parts) != want || read.Generation() != generation {
		return fmt.Errorf("server %s has %d objects of generation %d, not %d of %d", s.name, len(read.Parts), read.Generation(), want, generation)
	}
	return nil
}

// prober asks all the time for what holds now, another server if one does not answer, as a user's tools do.
type prober struct {
	*client
	servers []*server
	answers int
	longest time.Duration // without an answer
}

const (
	probing    = 100 * time.Millisecond
	probeGives = 2 * time.Second // one server this long
)

// probe asks until ctx ends.
func (p *prober) probe(ctx context.Context) {
	last, at := time.Now(), 0
	for sleep(ctx, probing) {
		bounded, cancel := context.WithTimeout(ctx, probeGives)
		var m configMap
		err := p.get(bounded, p.servers[at], partsPath+"/part-0", &m)
		cancel()
		if err != nil {
			at = (at + 1) % len(p.servers)
			continue
		}
		p.answers++
		p.longest = max(p.longest, time.Since(last))
		last = time.Now()
	}
}
