package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/node"
	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

const (
	// identityDir holds a node's key, its certificate, and the authority's.
	identityDir = "identity"
	// serversFile lists where the servers are, one host:port a line.
	serversFile = "servers"
)

// How long to wait between attempts to reach a server that may not be up yet.
const (
	firstRejoin = time.Second
	lastRejoin  = 15 * time.Second
)

// enrol finds out which node this machine is. One that is none yet joins.
func enrol(ctx context.Context, cfg AgentConfig) (*agent, error) {
	held, err := pki.OpenHeld(filepath.Join(cfg.DataDir, identityDir))
	switch {
	case errors.Is(err, fs.ErrNotExist) && cfg.Token == "":
		return nil, fmt.Errorf("this machine is no node yet (there is nothing in %s): make a token on a server with `mainstay token create --role agent`, and give it by --token", cfg.DataDir)
	case errors.Is(err, fs.ErrNotExist):
		held, err = joinCluster(ctx, cfg)
	case err == nil && cfg.Token != "":
		held, err = rejoin(ctx, cfg, held)
	}
	if err != nil {
		return nil, err
	}
	if time.Now().After(held.Expires()) {
		cfg.Log.Error(pki.Expired, "expired", held.Expires())
	}
	cluster, err := os.ReadFile(filepath.Join(cfg.DataDir, clusterFile))
	if err != nil {
		return nil, fmt.Errorf("read the cluster's id: %w", err)
	}
	if !cfg.NodeIP.IsValid() {
		cfg.NodeIP = addressTowards(cfg.Servers)
	}
	learned, _ := os.ReadFile(filepath.Join(cfg.DataDir, serversFile)) // without, those configured must do
	return &agent{
		cfg: cfg, name: held.Name(), cluster: strings.TrimSpace(string(cluster)), identity: held,
		learned: strings.Fields(string(learned)), listen: cfg.NodeIP,
	}, nil
}

// rejoin deals with a token that is given to a machine that is a node already. One whose certificate has expired needs it, and
// so does one that was away while the cluster's authority was rotated. Any other goes on as it is, whatever the token: it may be
// as old as the line that starts the agent.
func rejoin(ctx context.Context, cfg AgentConfig, held *pki.Held) (*pki.Held, error) {
	token, err := join.Parse(cfg.Token)
	if err != nil {
		return nil, err
	}
	if time.Now().After(held.Expires()) {
		return joinCluster(ctx, cfg)
	}
	if held.Trusts(token.Pin) {
		cfg.Log.Info("this machine is a node already: the token is not needed and was not used", "node", held.Name())
		return held, nil
	}
	a, err := newApplicant(cfg)
	if err != nil {
		return nil, err
	}
	again, err := a.apply(ctx)
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return again, nil
	case errors.As(err, &status) && status.Status().Code == http.StatusMisdirectedRequest:
		return nil, explained(err)
	}
	cfg.Log.Warn("this machine goes on as the node it is: the token names an authority that it does not know, and was not used", "node", held.Name(), "err", explained(err))
	return held, nil
}

// joinCluster has a server take this machine in. It waits for one that answers; a refusal is final.
func joinCluster(ctx context.Context, cfg AgentConfig) (*pki.Held, error) {
	a, err := newApplicant(cfg)
	if err != nil {
		return nil, err
	}
	for wait := firstRejoin; ; wait = min(2*wait, lastRejoin) {
		held, err := a.apply(ctx)
		switch {
		case err == nil:
			return held, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case final(err):
			return nil, explained(err)
		}
		cfg.Log.Warn("cannot join yet; the agent keeps trying", "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// applicant is a machine that asks to be taken in.
type applicant struct {
	cfg    AgentConfig
	client *link.Client
	ask    link.JoinRequest
	key    []byte
}

func newApplicant(cfg AgentConfig) (*applicant, error) {
	token, err := join.Parse(cfg.Token)
	if err != nil {
		return nil, err
	}
	name, err := chosenName(cfg.DataDir, cfg.NodeName) // kept only once it is this machine's: it may be refused
	if err != nil {
		return nil, err
	}
	request, key, err := pki.Request()
	if err != nil {
		return nil, err
	}
	cluster, err := os.ReadFile(filepath.Join(cfg.DataDir, clusterFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the cluster's id: %w", err)
	}
	return &applicant{
		cfg: cfg, key: key,
		client: link.NewVia(&http.Transport{DialTLSContext: pki.DialPinned(token.Pin), DisableKeepAlives: true}, cfg.Servers...),
		ask:    link.JoinRequest{Token: cfg.Token, Node: name, Request: string(request), Cluster: strings.TrimSpace(string(cluster))},
	}, nil
}

// apply asks once.
func (a *applicant) apply(ctx context.Context) (*pki.Held, error) {
	got, err := a.client.Join(ctx, a.ask)
	if err != nil {
		return nil, err
	}
	return keepMembership(a.cfg, a.ask.Node, got, a.key)
}

// final reports whether trying again would do no good.
func final(err error) bool {
	var status apierrors.APIStatus
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.Is(err, pki.ErrPin), errors.As(err, &host), errors.As(err, &authority):
		return true
	case errors.As(err, &status):
		code := status.Status().Code
		return code < http.StatusInternalServerError && code != http.StatusTooManyRequests
	}
	return false
}

// explained says what an error means to who runs the agent.
func explained(err error) error {
	var status apierrors.APIStatus
	var host x509.HostnameError
	switch {
	case errors.Is(err, pki.ErrPin):
		return pki.ErrPin
	case errors.As(err, &host):
		return fmt.Errorf("the server does not answer to the name %s: start it with --advertise %s:PORT, or give --server as it is known", host.Host, host.Host)
	case errors.As(err, &status):
		return errors.New(status.Status().Message)
	}
	return err
}

// keepMembership writes down what a server gave. The certificate comes last: with it the machine is a node.
func keepMembership(cfg AgentConfig, name string, got link.Membership, key []byte) (*pki.Held, error) {
	if got.Cluster == "" {
		return nil, errors.New("the server's answer names no cluster: is it of the same version as this agent?")
	}
	for file, content := range map[string]string{nodeFile: name, clusterFile: got.Cluster, serversFile: strings.Join(got.Servers, "\n")} {
		if err := durable.ReplaceFile(filepath.Join(cfg.DataDir, file), []byte(content+"\n")); err != nil {
			return nil, fmt.Errorf("keep %s: %w", file, err)
		}
	}
	held, err := pki.Hold(filepath.Join(cfg.DataDir, identityDir), []byte(got.Certificate), key, []byte(got.Authority))
	if err != nil {
		return nil, err
	}
	cfg.Log.Info("joined", "cluster", got.Cluster, "node", held.Name(), "servers", got.Servers, "expires", held.Expires())
	return held, nil
}

// addressTowards is the address that this host reaches the servers from, as others will reach it; where that is no more than
// loopback, the one it would reach anybody from. No packet is sent to find out.
func addressTowards(servers []string) netip.Addr {
	for _, server := range servers {
		conn, err := net.Dial("udp", server)
		if err != nil {
			continue
		}
		from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		conn.Close()
		if !from.IsLoopback() {
			return from
		}
	}
	return node.HostIP()
}
