package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mainstay-cluster/mainstay/server/join"
)

// adminTimeout bounds a request to the server on this machine.
const adminTimeout = 30 * time.Second

// Admin administers the server that runs on this machine with this data directory.
type Admin struct{ DataDir string }

// CreateToken returns a new token.
func (a Admin) CreateToken(ctx context.Context, wanted join.Wanted) (token string, err error) {
	return token, a.call(ctx, http.MethodPost, "/tokens", wanted, &token)
}

// Tokens lists the tokens, the newest first.
func (a Admin) Tokens(ctx context.Context) (list []join.Listed, err error) {
	return list, a.call(ctx, http.MethodGet, "/tokens", nil, &list)
}

// RevokeToken makes a token good for nothing more. False: there is none of that name.
func (a Admin) RevokeToken(ctx context.Context, id string) (known bool, err error) {
	return known, a.call(ctx, http.MethodDelete, "/tokens/"+url.PathEscape(id), nil, &known)
}

func (a Admin) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, adminTimeout, fmt.Errorf("the server did not answer within %s", adminTimeout))
	defer cancel()
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	stream, err := a.open(ctx, method, path, raw)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := json.NewDecoder(stream).Decode(answer); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// open asks the server, and returns its answer to be read and closed.
func (a Admin) open(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: a.dial, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, a.unreachable(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // as much of it as there is
		return nil, errors.New(strings.TrimSpace(string(why)))
	}
	return resp.Body, nil
}

func (a Admin) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	path, done, err := shortPath(filepath.Join(a.DataDir, adminSocket))
	if err != nil {
		return nil, err
	}
	defer done()
	return new(net.Dialer).DialContext(ctx, "unix", path)
}

func (a Admin) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server runs here with the data directory %s: run this on a server, or give its --data-dir", a.DataDir)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the server's admin socket in %s may be used by root and the server's own user only", a.DataDir)
	}
	return fmt.Errorf("reach the server: %w", err)
}
