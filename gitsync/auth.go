package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// webAuth makes the credentials for http(s); none are fine for a public repository.
func (s *remoteSource) webAuth() (transport.AuthMethod, error) {
	token := s.Token
	if s.TokenFile != "" {
		text, err := os.ReadFile(s.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token for %s: %w", s.at, err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token == "" {
		token = s.at.password
	}
	user := s.Username
	if user == "" {
		user = s.at.user
	}
	if token == "" && user != "" && s.at.password == "" {
		token, user = user, "" // https://TOKEN@host/path
	}
	if token == "" {
		return nil, nil
	}
	if user == "" {
		user = "git" // any name does where the password is a token
	}
	return &githttp.BasicAuth{Username: user, Password: token}, nil
}

// connectSSH prepares a connection whose host key is checked against known_hosts, always. go-git gives its handshake no
// deadline, so it dials a relay here that ends with ctx.
func (s *remoteSource) connectSSH(ctx context.Context) (connection, error) {
	host, port := s.at.host, "22"
	if h, p, err := net.SplitHostPort(s.at.host); err == nil {
		host, port = h, p
	}
	target := net.JoinHostPort(strings.Trim(host, "[]"), port)
	auth, err := s.sshAuth(target)
	if err != nil {
		return connection{}, err
	}
	relayed, stop, err := relay(ctx, target)
	if err != nil {
		return connection{}, err
	}
	return connection{url: "git@" + relayed + ":" + s.at.path, auth: auth, close: stop}, nil
}

// sshAuth is a key and the check of the host's, under the user the location names.
func (s *remoteSource) sshAuth(target string) (gitssh.AuthMethod, error) {
	user := s.at.user
	if user == "" {
		user = "git"
	}
	hosts, err := s.hostKeys()
	if err != nil {
		return nil, err
	}
	check := hosts.HostKeyCallback()
	helper := gitssh.HostKeyCallbackHelper{
		// Only what known_hosts has an entry for: a host with several keys must not present another one.
		HostKeyAlgorithms: hosts.HostKeyAlgorithms(target),
		// The connection goes through the relay; what is checked is the host it leads to.
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { return check(target, unnamed{}, key) },
	}
	file := s.keyFile()
	if file == "" {
		agent, err := gitssh.NewSSHAgentAuth(user)
		if err != nil {
			return nil, fmt.Errorf("%s: no SSH key: configure one, or run an agent: %w", s.at, err)
		}
		agent.HostKeyCallbackHelper = helper
		return agent, nil
	}
	keys, err := gitssh.NewPublicKeysFromFile(user, file, "")
	if err != nil {
		return nil, fmt.Errorf("%s: read the SSH key %s: %w", s.at, file, err)
	}
	keys.HostKeyCallbackHelper = helper
	return keys, nil
}

// unnamed is the address of a connection whose own is not to be checked: it would be the relay's.
type unnamed struct{}

func (unnamed) Network() string { return "tcp" }
func (unnamed) String() string  { return "0.0.0.0:0" }

func (s *remoteSource) hostKeys() (*knownhosts.HostKeyDB, error) {
	var files []string
	if s.KnownHosts != "" {
		files = []string{s.KnownHosts}
	} else {
		if home, err := os.UserHomeDir(); err == nil {
			files = append(files, filepath.Join(home, ".ssh", "known_hosts"))
		}
		files = append(files, "/etc/ssh/ssh_known_hosts")
	}
	var there []string
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			there = append(there, file)
		}
	}
	if len(there) == 0 {
		return nil, fmt.Errorf("%s: host keys are always checked, but there is no known_hosts (looked at %s): make one with `ssh-keyscan`, and compare the key with what the host's owner publishes", s.at, strings.Join(files, ", "))
	}
	db, err := knownhosts.NewDB(there...)
	if err != nil {
		return nil, fmt.Errorf("%s: read known_hosts: %w", s.at, err)
	}
	return db, nil
}

// keyFile is the configured key, else the first that ssh itself would try.
func (s *remoteSource) keyFile() string {
	if s.SSHKey != "" {
		return s.SSHKey
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		file := filepath.Join(home, ".ssh", name)
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// relay listens on loopback for one connection and passes it on to target, until ctx ends or stop is called, which waits
// for all it has started.
func relay(ctx context.Context, target string) (addr string, stop func(), err error) {
	upstream, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return "", nil, &unreachableError{fmt.Errorf("connect to %s: %w", target, err)}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("relay to %s: %w", target, err), upstream.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		<-ctx.Done()
		listener.Close()
		upstream.Close()
	})
	running.Go(func() {
		defer cancel()
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		listener.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		pass(conn, upstream)
	})
	return listener.Addr().String(), func() {
		cancel()
		running.Wait()
	}, nil
}

// pass copies both ways until one side ends.
func pass(a, b net.Conn) {
	ended := make(chan struct{}, 2)
	copyTo := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go copyTo(a, b)
	go copyTo(b, a)
	<-ended
	a.Close()
	b.Close()
	<-ended
}

// sshRemedy says what to do about an SSH error; it is "" for others.
func sshRemedy(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "key mismatch"):
		return "; THE HOST'S KEY IS NOT THE ONE IN known_hosts: someone may be listening; find out before you change known_hosts"
	case strings.Contains(text, "key is unknown"), strings.Contains(text, "no common algorithm for host key"):
		return "; the host's key is not in known_hosts: add it with `ssh-keyscan`, and compare it with what the host's owner publishes"
	case strings.Contains(text, "unable to authenticate"):
		return "; the server does not accept the key"
	}
	return ""
}

func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
