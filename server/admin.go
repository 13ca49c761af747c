package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mainstay-cluster/mainstay/server/join"
)

// adminSocket is where a server is administered: by who may open the file, and never over a network.
const adminSocket = "admin.sock"

// administer serves the admin socket until ctx ends.
func (s *server) administer(ctx context.Context) error {
	path := filepath.Join(s.cfg.DataDir, adminSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("serve the admin socket: %w", err) // what is there is an earlier process's: the directory is locked
	}
	listener, err := listenUnix(path)
	if err != nil {
		return fmt.Errorf("serve the admin socket: %w", err)
	}
	web := &http.Server{Handler: s.adminHandler(), ReadHeaderTimeout: 10 * time.Second, ConnContext: withPeer}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the admin socket: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return web.Close()
	})
	return g.Wait()
}

// listenUnix makes a socket that only the owner may open.
func listenUnix(path string) (net.Listener, error) {
	near, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	listener, err := net.Listen("unix", near)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // by then its short name leads nowhere
	return listener, os.Chmod(path, 0o600)
}

// maxSocketPath is the kernel's bound on the name of a socket.
const maxSocketPath = 107

// shortPath names a file by its directory's descriptor if its own name is too long for a socket. The name is good until done.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

// peerKey is where a request's context holds the user at the other end.
type peerKey struct{}

// withPeer finds out who is at the other end of a connection.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *syscall.Ucred
	_ = raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer.Uid)
}

// mayAdminister reports whether a user may: root, and whoever the server runs as. The file's mode says the same; this holds
// even where somebody has changed that.
func mayAdminister(ctx context.Context) bool {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	return ok && (uid == 0 || int(uid) == os.Geteuid())
}

func (s *server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /tokens", s.createToken)
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, _ *http.Request) { answerAdmin(w, s.gate.Tokens(), nil) })
	mux.HandleFunc("DELETE /tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		known, err := atLeader(r.Context(), s, pathRevoke, r.PathValue("id"), s.gate.RevokeToken)
		answerAdmin(w, known, err)
	})
	mux.HandleFunc("GET /snapshot", s.sendBackup)
	mux.HandleFunc("GET /servers", s.listServers)
	mux.HandleFunc("DELETE /servers/{name}", s.removeServer)
	mux.HandleFunc("POST /transfer", s.transfer)
	s.administerAuthority(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !mayAdminister(r.Context()) {
			http.Error(w, "only root and the user that the server runs as may administer it", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *server) createToken(w http.ResponseWriter, r *http.Request) {
	var wanted join.Wanted
	if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
		answerAdmin(w, nil, fmt.Errorf("the request is not understood: %w", err))
		return
	}
	token, err := atLeader(r.Context(), s, pathTokens, wanted, s.newToken)
	answerAdmin(w, token, err)
}

func (s *server) newToken(ctx context.Context, wanted join.Wanted) (string, error) {
	token, err := s.gate.CreateToken(ctx, wanted)
	return token.String(), err
}

// atLeader has the server that leads do something: this one, or that at path of another. While one is being elected, it waits a moment.
func atLeader[Q, A any](ctx context.Context, s *server, path string, q Q, do func(context.Context, Q) (A, error)) (answer A, err error) {
	_, _ = s.leader(ctx) // Where there is none, those who are asked say more of why.
	if s.leads() == nil {
		return do(ctx, q)
	}
	err = s.askLeader(ctx, path, q, &answer)
	if errors.Is(err, errElsewhere) {
		err = s.noQuorum(ctx, err)
	}
	return answer, err
}

// answerAdmin answers v, or says what err does.
func answerAdmin(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that left needs no answer
}
