package gitsync_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// webHost serves a bare repository as a Git host does.
type webHost struct {
	*httptest.Server
	requests atomic.Int64
	refs     atomic.Int64

	mu     sync.Mutex
	token  string                                        // what it wants, "" for anything
	before func(http.ResponseWriter, *http.Request) bool // says whether it has answered itself
}

func serveWeb(t testing.TB, bare repo) *webHost {
	t.Helper()
	execPath, err := exec.Command("git", "--exec-path").Output()
	must(t, err)
	backend := &cgi.Handler{
		Stderr: io.Discard,
		Path:   filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare.dir), "GIT_HTTP_EXPORT_ALL=1"},
	}
	h := &webHost{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		if strings.HasSuffix(r.URL.Path, "/info/refs") {
			h.refs.Add(1)
		}
		h.mu.Lock()
		token, before := h.token, h.before
		h.mu.Unlock()
		if _, password, _ := r.BasicAuth(); token != "" && password != token {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		if before == nil || !before(w, r) {
			backend.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *webHost) set(token string, before func(http.ResponseWriter, *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token, h.before = token, before
}

// url is that of the repository, with user information if given.
func (h *webHost) url(bare repo, userinfo string) string {
	if userinfo != "" {
		userinfo += "@"
	}
	return strings.Replace(h.URL, "://", "://"+userinfo, 1) + "/" + filepath.Base(bare.dir)
}

// pushed makes a bare repository with a worktree that pushes into it.
func pushed(t testing.TB) (bare, work repo) {
	t.Helper()
	bare, work = newRepo(t, "--bare"), newRepo(t)
	work.git("remote", "add", "origin", bare.dir)
	return bare, work
}

func (r repo) push(args ...string) {
	r.t.Helper()
	r.git(append([]string{"push", "-q", "origin"}, args...)...)
}

// sshHost runs git-upload-pack for whoever has the key.
type sshHost struct {
	addr       string
	knownHosts string // a file with its key
	clientKey  string // a file with the key it accepts
	hang       atomic.Bool
	sessions   sync.WaitGroup
}

func newKey(t testing.TB) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	return signer, pem.EncodeToMemory(block)
}

func serveSSH(t testing.TB) *sshHost {
	t.Helper()
	hostKey, _ := newKey(t)
	userKey, private := newKey(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := &sshHost{addr: listener.Addr().String(), clientKey: filepath.Join(t.TempDir(), "key")}
	must(t, os.WriteFile(h.clientKey, private, 0o600))
	h.knownHosts = knows(t, h.addr, hostKey.PublicKey())
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(userKey.PublicKey().Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey)
	h.sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.sessions.Go(func() { h.serve(conn, config) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		h.sessions.Wait()
	})
	return h
}

// knows writes a known_hosts file.
func knows(t testing.TB, addr string, key ssh.PublicKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(file, []byte(knownhosts.Line([]string{knownhosts.Normalize(addr)}, key)+"\n"), 0o600))
	return file
}

func (h *sshHost) serve(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	if h.hang.Load() {
		_, _ = io.Copy(io.Discard, conn) // until the other side gives up
		return
	}
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer server.Close()
	go ssh.DiscardRequests(requests)
	for open := range channels {
		channel, requests, err := open.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			if request.Type != "exec" {
				_ = request.Reply(false, nil)
				continue
			}
			_ = request.Reply(true, nil)
			status := uploadPack(channel, string(request.Payload[4:]))
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			channel.Close()
			break
		}
	}
}

func uploadPack(channel ssh.Channel, command string) uint32 {
	dir := strings.Trim(strings.TrimPrefix(command, "git-upload-pack "), "'")
	cmd := exec.Command("git-upload-pack", dir)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(in, channel)
		in.Close()
	}()
	if cmd.Wait() != nil {
		return 1
	}
	return 0
}

func (h *sshHost) url(bare repo) string { return "ssh://git@" + h.addr + bare.dir }
