package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

// enter finds out which server this is: the one of the data directory, else one that joins others, else the first of a new
// cluster.
func enter(ctx context.Context, cfg Config, advertise string) (membership, *pki.Authority, error) {
	m, err := readMembership(cfg.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(cfg.Join) > 0:
		return joinServers(ctx, cfg, advertise, "")
	case errors.Is(err, fs.ErrNotExist):
		return first(cfg)
	case err != nil:
		return m, nil, err
	case cfg.Name != "" && cfg.Name != m.Name:
		return m, nil, fmt.Errorf("--name: the data directory %s is that of server %s and cannot be given to %s: leave out --name, or give another --data-dir", cfg.DataDir, m.Name, cfg.Name)
	}
	if m.Joined && !pki.Kept(filepath.Join(cfg.DataDir, "pki")) {
		return joinServers(ctx, cfg, advertise, m.Name) // it was interrupted
	}
	authority, err := pki.Open(filepath.Join(cfg.DataDir, "pki"), time.Now)
	if err != nil {
		return m, nil, err
	}
	return m, authority, heedless(cfg, m, authority)
}

// first makes the first server of a cluster.
func first(cfg Config) (membership, *pki.Authority, error) {
	name, err := newName(cfg.Name)
	if err != nil {
		return membership{}, nil, err
	}
	authority, err := pki.Open(filepath.Join(cfg.DataDir, "pki"), time.Now)
	if err != nil {
		return membership{}, nil, err
	}
	m := membership{Name: name}
	return m, authority, m.keep(cfg.DataDir)
}

// heedless deals with a server that is told to join and has: the same command starts it again.
func heedless(cfg Config, m membership, authority *pki.Authority) error {
	if len(cfg.Join) == 0 {
		return nil
	}
	if cfg.Token != "" {
		token, err := join.Parse(cfg.Token)
		if err != nil {
			return err
		}
		if !authority.Knows(token.Pin) {
			return fmt.Errorf("the data directory %s is that of server %s of another cluster than the token is for: give another --data-dir, or move that one away", cfg.DataDir, m.Name)
		}
	}
	cfg.Log.Info("this machine is a server already: --join and --token are not needed and were not used", "server", m.Name)
	return nil
}

// joinServers has a server take this machine in as another one, under name if that is given. It waits for one that answers; a
// refusal is final.
func joinServers(ctx context.Context, cfg Config, advertise, name string) (m membership, authority *pki.Authority, err error) {
	if len(cfg.Join) == 0 {
		return m, nil, fmt.Errorf("server %s has not finished joining: give --join HOST:PORT and --token once more", name)
	}
	if pki.Kept(filepath.Join(cfg.DataDir, "pki")) {
		return m, nil, fmt.Errorf("the data directory %s holds the authority of a cluster, but no server: give another --data-dir, or move that one away", cfg.DataDir)
	}
	if cfg.Token == "" {
		return m, nil, errors.New("this machine is no server of that cluster yet: make a token on a server with `mainstay token create --role server`, and give it by --token")
	}
	token, err := join.Parse(cfg.Token)
	if err != nil {
		return m, nil, fmt.Errorf("--token: %w", err)
	}
	if name == "" {
		if name, err = newName(cfg.Name); err != nil {
			return m, nil, err
		}
	}
	cfg.Log.Info("joining", "server", name, "at", cfg.Join, "advertise", advertise)
	got, err := askToJoin(ctx, cfg, token, &link.JoiningServer{Name: name, Address: advertise, Version: cfg.Version, Level: cfg.wires.stored().Level()})
	if err != nil {
		return m, nil, err
	}
	m = membership{Name: name, Joined: true, Servers: got.Servers, Repo: got.Repo, Branch: got.Branch, Path: got.Path}
	if err := m.keep(cfg.DataDir); err != nil {
		return m, nil, err
	}
	// The authority comes last: with it this is a server.
	authority, err = pki.Install(filepath.Join(cfg.DataDir, "pki"), []byte(got.Authority), []byte(got.AuthorityKey), time.Now)
	return m, authority, err
}

// askToJoin asks the servers in turn, and again until one answers.
func askToJoin(ctx context.Context, cfg Config, token join.Token, wanted *link.JoiningServer) (link.Membership, error) {
	client := link.NewVia(&http.Transport{DialTLSContext: pki.DialPinned(token.Pin), DisableKeepAlives: true}, cfg.Join...)
	for wait := firstRejoin; ; wait = min(2*wait, lastRejoin) {
		got, err := client.Join(ctx, link.JoinRequest{Token: cfg.Token, Server: wanted})
		switch {
		case err == nil && got.AuthorityKey == "":
			return got, errors.New("the server's answer holds no authority: is it of the same version as this one?")
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return got, context.Cause(ctx)
		case final(err):
			return got, explained(err)
		}
		cfg.Log.Warn("cannot join yet; the server keeps trying", "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return got, context.Cause(ctx)
		}
	}
}

// letIn takes in a machine that brings a token. A server is told, besides, what the cluster follows: the same as this one.
func (s *server) letIn(ctx context.Context, req link.JoinRequest, from netip.Addr) (link.Membership, error) {
	m, err := s.gate.Join(ctx, req, from)
	if err == nil && req.Server != nil {
		m.Repo, err = s.cfg.Git.Location()
		m.Branch, m.Path = s.cfg.Git.Branch, s.cfg.Git.Path
	}
	return m, err
}
