package pki_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
)

// copyOf is the same authority on another server.
func copyOf(t *testing.T, a *pki.Authority) *pki.Authority {
	t.Helper()
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := pki.Install(t.TempDir(), a.CertPEM(), key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// adopt has authorities take over what step makes of a.
func adopt(t *testing.T, step func() (cert, key []byte, err error), all ...*pki.Authority) {
	t.Helper()
	cert, key, err := step()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if news, err := a.Adopt(cert, key); err != nil || !news {
			t.Fatalf("adopted %t, %v", news, err)
		}
	}
}

func serverOf(a *pki.Authority) *pki.Renewing {
	return a.Renewing(pki.Identity{Name: "s", Group: pki.GroupServers, Hosts: []string{"127.0.0.1"}})
}

type clientTLS interface{ ToServers() *tls.Config }

// talks says whom a server sees when somebody calls it.
func talks(t *testing.T, server *pki.Renewing, client clientTLS) (string, error) {
	t.Helper()
	config := client.ToServers()
	config.ServerName = "127.0.0.1"
	return handshake(t, server.ServerTLS(), config)
}

// Whoever knows of the rotation and whoever does not understand each other, in whatever order they hear of it.
func TestNobodyIsCutOffByARotation(t *testing.T) {
	first := open(t, t.TempDir())
	second := copyOf(t, first)
	away := hold(t, first, filepath.Join(t.TempDir(), "away"))
	adopt(t, first.Next, first) // the second server has yet to hear of it
	moved := hold(t, first, filepath.Join(t.TempDir(), "moved"))
	all := func(when string) {
		for name, server := range map[string]*pki.Authority{"first": first, "second": second} {
			for who, client := range map[string]clientTLS{"a node away": away, "a node that moved": moved, "the first server": serverOf(first), "the second server": serverOf(second)} {
				if seen, err := talks(t, serverOf(server), client); err != nil || seen == "" {
					t.Errorf("%s, %s calls the %s server: it saw %q, %v", when, who, name, seen, err)
				}
			}
		}
	}
	all("one server knows")
	cert, key := first.CertPEM(), must(first.KeyPEM())
	if news, err := second.Adopt(cert, key); err != nil || !news {
		t.Fatalf("adopted %t, %v", news, err)
	}
	all("both know")
	if !first.Signed(leaf(t, serverOf(second))) {
		t.Error("a server that knows shows a certificate of the former authority")
	}
	moved = hold(t, second, filepath.Join(t.TempDir(), "moved again"))
	adopt(t, first.Last, first, second)
	if seen, err := talks(t, serverOf(first), moved); err != nil || seen == "" {
		t.Errorf("after the end, a node that moved: the server saw %q, %v", seen, err)
	}
	if seen, err := talks(t, serverOf(first), away); err == nil || seen != "" {
		t.Errorf("after the end, a node that was away all the time: the server saw %q, %v", seen, err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestRotationIsKeptAndNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	before, beforeKey, err := a.First()
	if err != nil {
		t.Fatal(err)
	}
	first := a.Pin()
	adopt(t, a.First, a)
	adopt(t, a.Next, a)
	if _, _, err := a.Next(); !errors.Is(err, pki.ErrRotating) {
		t.Errorf("a second rotation begins beside the first: %v", err)
	}
	if news, err := a.Adopt(before, beforeKey); news || err != nil {
		t.Errorf("what was before is adopted: %t, %v", news, err)
	}
	again := open(t, dir)
	if again.Mark() != a.Mark() || again.Former() == "" {
		t.Errorf("after a restart it is %q and was %q", again.Mark(), a.Mark())
	}
	adopt(t, again.Last, again)
	if _, _, err := again.Last(); !errors.Is(err, pki.ErrNotRotating) {
		t.Errorf("a rotation ends twice: %v", err)
	}
	last := open(t, dir)
	for pin, want := range map[string]bool{a.Pin(): true, first: true, open(t, t.TempDir()).Pin(): false} {
		if last.Knows(pin) != want {
			t.Errorf("it knows %s: %t, want %t", pin, !want, want)
		}
	}
	if last.Mark() != again.Mark() || last.Former() != "" {
		t.Errorf("after the end and a restart it is %q and was %q", last.Mark(), again.Mark())
	}
}

// A token made before a rotation is good until its end, one made after from the first.
func TestTokensOfBothAuthoritiesAreGoodDuringARotation(t *testing.T) {
	a := open(t, t.TempDir())
	old := a.Pin()
	dial := func(pin string) error {
		listener, err := tls.Listen("tcp", "127.0.0.1:0", serverOf(a).ServerTLS())
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			if conn, err := listener.Accept(); err == nil {
				_ = conn.(*tls.Conn).Handshake() // what the client thinks of it counts
				conn.Close()
			}
		}()
		conn, err := pki.DialPinned(pin)(t.Context(), "tcp", listener.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err
	}
	adopt(t, a.Next, a)
	for name, pin := range map[string]string{"made before": old, "made since": a.Pin()} {
		if err := dial(pin); err != nil {
			t.Errorf("a token %s: %v", name, err)
		}
	}
	adopt(t, a.Last, a)
	if err := dial(old); !errors.Is(err, pki.ErrPin) {
		t.Errorf("a token made before, after the end: %v", err)
	}
	if err := dial(a.Pin()); err != nil {
		t.Errorf("a token made since, after the end: %v", err)
	}
}

// What a node is told by its servers it does at once, weeks before half of its certificate's life; and it says so.
func TestHeldCertificateFollowsARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a := open(t, dir)
		held := hold(t, a, filepath.Join(dir, "identity"))
		var mu sync.Mutex
		var confirmed []string
		issuer := pki.Issuer{
			Sign: func(_ context.Context, request []byte) ([]byte, []byte, error) {
				cert, err := a.Sign(request, node)
				return cert, a.TrustPEM(), err
			},
			Confirm: func(_ context.Context, mark string) error {
				mu.Lock()
				defer mu.Unlock()
				if confirmed = append(confirmed, mark); len(confirmed) == 1 {
					return errors.New("no leader")
				}
				return nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- held.Renew(ctx, issuer, slog.New(slog.DiscardHandler)) }()
		tell := func() { // as polls do, again and again
			for range 3 {
				held.Told(a.Mark())
				time.Sleep(time.Minute)
				synctest.Wait()
			}
		}
		tell()
		want := []string{a.Mark(), a.Mark()} // the first was not heard
		for _, step := range []func() (cert, key []byte, err error){a.Next, a.Last} {
			adopt(t, step, a)
			tell()
			want = append(want, a.Mark())
			if held.Mark() != a.Mark() || !held.Trusts(a.Pin()) {
				t.Errorf("the node holds %q, the authority is %q", held.Mark(), a.Mark())
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(confirmed, want) {
			t.Errorf("confirmed %v, want %v", confirmed, want)
		}
		if again, err := pki.OpenHeld(filepath.Join(dir, "identity")); err != nil || again.Mark() != a.Mark() {
			t.Errorf("after a restart: %v", err)
		}
	})
}

func TestAuthorityOfTwoFilesIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	a := open(t, t.TempDir())
	for name, content := range map[string][]byte{"ca.crt": a.CertPEM(), "ca.key": must(a.KeyPEM())} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got := open(t, dir); got.Pin() != a.Pin() {
			t.Errorf("the authority is %s, want %s", got.Pin(), a.Pin())
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), a.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "authority.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(dir, time.Now); err == nil {
		t.Error("an authority without its key was replaced by another")
	}
}

func TestConnectionsAreWorthWhatTheirAuthorityIs(t *testing.T) {
	a := open(t, t.TempDir())
	verified := func() *tls.ConnectionState {
		near, far := net.Pipe()
		defer near.Close()
		got := make(chan *tls.ConnectionState, 1)
		go func() {
			conn := tls.Server(far, serverOf(a).ServerTLS())
			_ = conn.Handshake() // its outcome shows in the state
			state := conn.ConnectionState()
			got <- &state
		}()
		config := a.Renewing(node).ToServers()
		config.ServerName = "127.0.0.1"
		conn := tls.Client(near, config)
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }() // so that the other side gets rid of what it says after
		return <-got
	}
	old, self := verified().VerifiedChains[0], serverOf(a)
	now := time.Now()
	adopt(t, a.Next, a)
	during := verified().VerifiedChains[0]
	if got := self.Worth(old, now); got != pki.WorthRenewing {
		t.Errorf("during the rotation, an old connection is worth %v", got)
	}
	if got := self.Worth(during, now); got != pki.WorthAll {
		t.Errorf("during the rotation, a new connection is worth %v", got)
	}
	adopt(t, a.Last, a)
	if got := self.Worth(old, now); got != pki.WorthNothing {
		t.Errorf("after it, an old connection is worth %v", got)
	}
	if got := self.Worth(during, now); got != pki.WorthAll {
		t.Errorf("after it, a new connection is worth %v", got)
	}
}
