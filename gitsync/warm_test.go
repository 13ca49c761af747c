package gitsync_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// A leader that was kept ready goes on from what is active without fetching or decoding anything, and decodes of the next
// commit what that changes.
func TestALeaderThatWasKeptReadyReadsNothingAgain(t *testing.T) {
	bare, work := pushed(t)
	first := work.put("a", "1")
	work.push("main")
	host := serveWeb(t, bare)
	var fetches atomic.Int64
	host.set("", func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			fetches.Add(1)
		}
		return false
	})
	store := statetest.New(t)
	old := follow(t, store, remotely(t, host.url(bare, "")))
	old.active(first)

	next := remotely(t, host.url(bare, ""))
	next.Loader = &load.Loader{}
	ctx, cancel := context.WithCancel(t.Context())
	warm := make(chan error, 1)
	go func() { warm <- gitsync.Warm(ctx, next, store) }()
	eventually(t, "the next leader has the commit", func() bool { return next.Loader.Stats().Parsed > 0 })
	version, parsed := store.View().Version, next.Loader.Stats().Parsed
	old.stop()
	cancel()
	if err := <-warm; err != context.Canceled {
		t.Fatal(err)
	}
	before := fetches.Load()
	c := follow(t, store, next)
	looked := host.refs.Load()
	eventually(t, "the new leader has looked twice", func() bool { return host.refs.Load() > looked+1 })
	if n := fetches.Load() - before; n != 0 || next.Loader.Stats().Parsed != parsed || store.View().Version != version {
		t.Errorf("the new leader fetched %d times, decoded %d files and wrote %d versions; want none", n, next.Loader.Stats().Parsed-parsed, store.View().Version-version)
	}
	second := work.put("b", "1")
	work.push("main")
	began := time.Now()
	c.active(second)
	t.Logf("active %v after the push", time.Since(began))
	if n := next.Loader.Stats().Parsed - parsed; n != 1 {
		t.Errorf("%d files were decoded for the next commit, want 1", n)
	}
}
