package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state/raftlog"
)

// ask sends a line by a protocol and returns all that comes back.
func ask(t *testing.T, at, protocol, line string, config *tls.Config) (string, error) {
	t.Helper()
	config.NextProtos = []string{protocol}
	conn, err := tls.Dial("tcp", at, config)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, line); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Raft asks nobody who they are: the port does. An unknown command is what raft hangs up on without a word.
func TestRaftIsForServersAlone(t *testing.T) {
	_, running, _, evil := twoNodeCluster(t)
	stranger, err := pki.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	foreign := stranger.Renewing(pki.Identity{Name: elder, Group: pki.GroupServers}).ClientTLS()
	foreign.RootCAs = running.authority.Pool()
	for name, tc := range map[string]struct {
		tls  *tls.Config
		want string // in the error; "" is none
	}{
		"a server":                 {running.self.ToServers(), ""},
		"a node":                   {evil.ToServers(), "bad certificate"},
		"a viewer":                 {running.authority.Renewing(pki.Identity{Name: "v", Group: pki.GroupViewers}).ClientTLS(), "bad certificate"},
		"nobody":                   {&tls.Config{RootCAs: running.authority.Pool()}, "bad certificate"},
		"another cluster's server": {foreign, "unknown certificate authority"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := ask(t, running.reachable, raftlog.RaftProtocol, "\xff", tc.tls)
			switch {
			case tc.want == "" && (err != nil || answer != ""):
				t.Errorf("raft answered %q, %v", answer, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%q, %v, want an error with %q", answer, err, tc.want)
			}
		})
	}
}

func TestOnePortStillSpeaksHTTP(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	config := running.authority.Renewing(pki.Identity{Name: "v", Group: pki.GroupViewers}).ClientTLS()
	const request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	answer, err := ask(t, running.reachable, "http/1.1", request, config.Clone())
	if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("HTTP/1.1: %q, %v", answer, err)
	}
	config.NextProtos = []string{"h2", raftlog.RaftProtocol}
	conn, err := tls.Dial("tcp", running.reachable, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("who speaks both gets %q, want h2", got)
	}
	plain, err := net.Dial("tcp", running.reachable)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.WriteString(plain, request); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(plain); err != nil && !errors.Is(err, io.EOF) || !strings.Contains(string(answer), "HTTPS server") {
		t.Errorf("without TLS: %q, %v", answer, err)
	}
}
