package gitsync_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// remotely is a configuration that asks often and keeps its copy in a directory of the test.
func remotely(t testing.TB, url string) gitsync.Config {
	return gitsync.Config{Repo: url, CacheDir: filepath.Join(t.TempDir(), "git"), Poll: 20 * time.Millisecond}
}

func TestARemoteRepositoryIsFollowed(t *testing.T) {
	bare, work := pushed(t)
	for range 30 {
		work.put("a", "long ago")
	}
	first := work.put("a", "1")
	work.push("main")
	host := serveWeb(t, bare)
	config := remotely(t, host.url(bare, ""))
	c := follow(t, statetest.New(t), config)
	if got := value(c.active(first), "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
	cache := repo{t, config.CacheDir}
	if depth := cache.git("rev-list", "--count", first); depth != "1" {
		t.Errorf("%s commits were fetched, want 1", depth)
	}
	for _, v := range []string{"2", "3", "4"} {
		commit := work.put("a", v)
		work.push("main")
		if got := value(c.active(commit), "a"); got != v {
			t.Errorf("a = %q, want %q", got, v)
		}
	}
	if got := status(c.store.View()); got.Repo != host.url(bare, "") || got.Branch != "main" || got.Error != "" {
		t.Errorf("status = %+v", got)
	}
}

func TestAForcePushIsFollowed(t *testing.T) {
	bare, work := pushed(t)
	first := work.put("a", "1")
	second := work.put("a", "2")
	work.push("main")
	c := follow(t, statetest.New(t), remotely(t, serveWeb(t, bare).url(bare, "")))
	c.active(second)
	work.push("--force", first+":main")
	if got := value(c.active(first), "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
	work.git("checkout", "-q", "--orphan", "fresh")
	orphan := work.put("a", "orphan")
	work.push("--force", "fresh:main")
	if got := value(c.active(orphan), "a"); got != "orphan" {
		t.Errorf("a = %q", got)
	}
	work.push("--force", second+":main")
	if got := value(c.active(second), "a"); got != "2" {
		t.Errorf("a = %q", got)
	}
}

// A poll that finds nothing new is one exchange, and writes nothing.
func TestAPollIsOneLookup(t *testing.T) {
	bare, work := pushed(t)
	first := work.put("a", "1")
	work.push("main")
	host := serveWeb(t, bare)
	c := follow(t, statetest.New(t), remotely(t, host.url(bare, "")))
	version := c.active(first).Version
	before, refs := host.requests.Load(), host.refs.Load()
	const polls = 5
	eventually(t, "more polls", func() bool { return host.requests.Load() >= before+polls })
	c.stop()
	if asked, looked := host.requests.Load()-before, host.refs.Load()-refs; asked != looked {
		t.Errorf("%d requests for %d looks", asked, looked)
	}
	if now := c.store.View().Version; now != version {
		t.Errorf("%d writes", now-version)
	}
}

// eventually polls for something outside of the store.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.Tick(time.Millisecond); !ok(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("%s: did not come about", what)
		}
	}
}

// P3, P11: a repository that cannot be read changes nothing, and says why without its credentials.
func TestARemoteRepositoryInTrouble(t *testing.T) {
	const secret = "s3cr3t"
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, body, status)
			return true
		}
	}
	for name, tc := range map[string]struct {
		harm func(t *testing.T, host *webHost, bare, work repo)
		want string
	}{
		"credentials revoked": {func(_ *testing.T, h *webHost, _, _ repo) { h.set("other", nil) }, "wants other credentials"},
		"host down":           {func(_ *testing.T, h *webHost, _, _ repo) { h.CloseClientConnections(); h.Listener.Close() }, "refused"},
		"server error":        {func(_ *testing.T, h *webHost, _, _ repo) { h.set(secret, answer(500, "no")) }, "500"},
		"garbage":             {func(_ *testing.T, h *webHost, _, _ repo) { h.set(secret, answer(200, "<html>login")) }, "look up the branch"},
		"repository deleted":  {func(t *testing.T, _ *webHost, b, _ repo) { must(t, os.Rename(b.dir, b.dir+"-gone")) }, "check its address"},
		"branch deleted": {func(_ *testing.T, _ *webHost, b, w repo) {
			w.push("main:other")
			b.git("update-ref", "-d", "refs/heads/main")
		}, "has no branch main; it has other"},
		"emptied": {func(_ *testing.T, _ *webHost, b, _ repo) { b.git("update-ref", "-d", "refs/heads/main") }, "has no commits yet"},
		"pack cut off": {func(_ *testing.T, h *webHost, _, w repo) {
			h.set(secret, func(rw http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
					return false
				}
				rw.Header().Set("Content-Type", "application/x-git-upload-pack-result")
				_, _ = rw.Write([]byte("0008NAK\n0015\x01PACK\x00\x00\x00\x02\x00\x00\x00\x09xx"))
				return true
			})
			w.put("a", "2")
			w.push("main")
		}, "fetch"},
	} {
		t.Run(name, func(t *testing.T) {
			bare, work := pushed(t)
			first := work.put("a", "1")
			work.push("main")
			host := serveWeb(t, bare)
			host.set(secret, nil)
			c := follow(t, statetest.New(t), remotely(t, host.url(bare, "user:"+secret)))
			c.active(first)
			tc.harm(t, host, bare, work)
			snap := c.failing(tc.want)
			got := status(snap)
			if value(snap, "a") != "1" || got.Revision != gitsync.RevisionName(first) {
				t.Errorf("a = %q, status = %+v", value(snap, "a"), got)
			}
			if strings.Contains(got.Error+got.Repo, secret) || strings.Contains(got.Error, "user") {
				t.Errorf("credentials are shown: %+v", got)
			}
		})
	}
}

func TestCredentialsAreReadAnew(t *testing.T) {
	bare, work := pushed(t)
	first := work.put("a", "1")
	work.push("main")
	host := serveWeb(t, bare)
	host.set("one", nil)
	config := remotely(t, host.url(bare, ""))
	config.TokenFile = filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(config.TokenFile, []byte("one\n"), 0o600))
	c := follow(t, statetest.New(t), config)
	c.active(first)
	host.set("two", nil)
	c.failing("wants other credentials")
	must(t, os.WriteFile(config.TokenFile, []byte("two\n"), 0o600))
	second := work.put("a", "2")
	work.push("main")
	c.active(second)
}

// The copy is disposable: damaged in any way, it is made anew.
func TestADamagedCopyIsMadeAnew(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, cache string){
		"deleted":       func(t *testing.T, cache string) { must(t, os.RemoveAll(cache)) },
		"packs deleted": func(t *testing.T, cache string) { must(t, os.RemoveAll(filepath.Join(cache, "objects", "pack"))) },
		"a file instead": func(t *testing.T, cache string) {
			must(t, os.RemoveAll(cache))
			must(t, os.WriteFile(cache, nil, 0o600))
		},
		"packs garbled": func(t *testing.T, cache string) {
			files, err := filepath.Glob(filepath.Join(cache, "objects", "pack", "*"))
			must(t, err)
			for _, file := range files {
				must(t, os.Chmod(file, 0o600))
				must(t, os.WriteFile(file, []byte("garbage"), 0o600))
			}
		},
		"packs cut off": func(t *testing.T, cache string) {
			files, err := filepath.Glob(filepath.Join(cache, "objects", "pack", "*.pack"))
			must(t, err)
			for _, file := range files {
				must(t, os.Chmod(file, 0o600))
				must(t, os.Truncate(file, 30))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bare, work := pushed(t)
			first := work.put("a", "1")
			work.push("main")
			config := remotely(t, serveWeb(t, bare).url(bare, ""))
			store := statetest.New(t)
			c := follow(t, store, config)
			c.active(first)
			c.stop()
			harm(t, config.CacheDir)
			c = follow(t, store, config)
			second := work.put("b", "2")
			work.push("main")
			c.active(second)
		})
	}
}

func TestSSH(t *testing.T) {
	bare, work := pushed(t)
	first := work.put("a", "1")
	work.push("main")
	host := serveSSH(t)
	config := remotely(t, host.url(bare))
	config.SSHKey, config.KnownHosts = host.clientKey, host.knownHosts
	c := follow(t, statetest.New(t), config)
	c.active(first)
	second := work.put("a", "2")
	work.push("main")
	c.active(second)
}

// Host keys are always checked: there is no way to connect without.
func TestSSHHostKeys(t *testing.T) {
	bare, work := pushed(t)
	work.put("a", "1")
	work.push("main")
	host := serveSSH(t)
	other, otherPEM := newKey(t)
	otherKey := filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(otherKey, otherPEM, 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	for name, tc := range map[string]struct{ key, knownHosts, want string }{
		"another host key": {host.clientKey, knows(t, host.addr, other.PublicKey()), "IS NOT THE ONE IN known_hosts"},
		"unknown host":     {host.clientKey, empty, "is not in known_hosts"},
		"no known_hosts":   {host.clientKey, filepath.Join(t.TempDir(), "none"), "there is no known_hosts"},
		"another user key": {otherKey, host.knownHosts, "does not accept the key"},
	} {
		t.Run(name, func(t *testing.T) {
			config := remotely(t, host.url(bare))
			config.SSHKey, config.KnownHosts = tc.key, tc.knownHosts
			c := follow(t, statetest.New(t), config)
			if n := state.Len[*object.Revision](c.failing(tc.want)); n != 0 {
				t.Errorf("%d revisions", n)
			}
		})
	}
}

// A server that accepts and says nothing must not hold up the end of a term.
func TestAHangingHostEndsWithTheTerm(t *testing.T) {
	bare, work := pushed(t)
	work.put("a", "1")
	work.push("main")
	host := serveSSH(t)
	host.hang.Store(true)
	config := remotely(t, host.url(bare))
	config.SSHKey, config.KnownHosts = host.clientKey, host.knownHosts
	c := follow(t, statetest.New(t), config)
	web := serveWeb(t, bare)
	asked := make(chan struct{}, 1)
	web.set("", func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
		return true
	})
	d := follow(t, statetest.New(t), remotely(t, web.url(bare, "")))
	<-asked
	c.stop()
	d.stop()
}
