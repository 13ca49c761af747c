package gitsync_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// Every fetch leaves a pack, and nothing tidies up: a copy with many is made anew, both when it is opened and while it is used.
func TestACopyOfManyPacksIsMadeAnew(t *testing.T) {
	for name, restart := range map[string]bool{"while it is used": false, "when it is opened": true} {
		t.Run(name, func(t *testing.T) {
			bare, work := pushed(t)
			first := work.put("a", "1")
			work.push("main")
			config, store := remotely(t, serveWeb(t, bare).url(bare, "")), statetest.New(t)
			c := follow(t, store, config)
			c.active(first)
			if restart {
				c.stop()
			}
			copyPacks(t, config.CacheDir, 60)
			if restart {
				c = follow(t, store, config)
			}
			second := work.put("a", "2")
			work.push("main")
			c.active(second)
			if left := len(packs(t, config.CacheDir)); left > 5 {
				t.Errorf("%d packs are left", left)
			}
		})
	}
}

func packs(t *testing.T, cache string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cache, "objects", "pack", "pack-*.pack"))
	must(t, err)
	return found
}

// copyPacks puts n more good packs into the cache, under names of their own.
func copyPacks(t *testing.T, cache string, n int) {
	t.Helper()
	original := strings.TrimSuffix(packs(t, cache)[0], ".pack")
	for i := range n {
		for _, kind := range []string{".idx", ".pack"} {
			content, err := os.ReadFile(original + kind)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(filepath.Dir(original), fmt.Sprintf("pack-%040x%s", i+1, kind)), content, 0o600))
		}
	}
}

// A pack without end is given up before it fills the disk. What is on the disk is counted, so a file with a hole stands for it.
func TestAnEndlessPackIsGivenUp(t *testing.T) {
	bare, work := pushed(t)
	first := work.put("a", "1")
	work.push("main")
	host := serveWeb(t, bare)
	config := remotely(t, host.url(bare, ""))
	c := follow(t, statetest.New(t), config)
	c.active(first)
	host.set("", func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		must(t, os.Truncate(packs(t, config.CacheDir)[0], 1<<30+1))
		<-r.Context().Done() // nothing comes, and nothing ends
		return true
	})
	work.put("a", "2")
	work.push("main")
	if got := value(c.failing("takes more than 1024 MiB"), "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
}
