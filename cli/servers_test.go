package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
)

func threeServers(reached ...bool) serverList {
	list := serverList{}
	for i, r := range reached {
		list = append(list, Server{Name: fmt.Sprint("s", i+1), Address: fmt.Sprintf("10.0.0.%d:7443", i+1), Role: "Voter", Reached: r, Leader: r && i == 0, Version: "v1"})
	}
	return list
}

func TestStatusOfServers(t *testing.T) {
	lagging := threeServers(true, true, true)
	lagging[2].Lag = 12
	electing := threeServers(true, true, false)
	electing[0].Leader = false
	alone := threeServers(false, true, false)
	full, single := threeServers(true, true, true), threeServers(true)
	full[1].Trouble, single[0].Trouble = "the disk of /d/raft is full: free at least 8 MiB", "the disk of /d/raft is full: free at least 8 MiB"
	single[0].Leader = false
	for name, servers := range map[string]serverList{
		"status-servers": lagging, "status-server-down": threeServers(true, false, true), "status-electing": electing, "status-no-quorum": alone,
		"status-calm": threeServers(true), "status-disk-full": full, "status-all-disks-full": single,
	} {
		t.Run(name, func(t *testing.T) {
			f := &facts{cluster: *clusterAt(commit1, commit1[:12]), revisions: []*object.Revision{converged(noon)}}
			f.nodes, f.pods = append(f.nodes, node("n1")), append(f.pods, readyPod("default", "web-1"))
			s := f.status(noon)
			s.Server = "10.0.0.2:7443"
			s.addServers(servers)
			var b strings.Builder
			if err := printStatus(&b, s, noon); err != nil {
				t.Fatal(err)
			}
			golden(t, name, b.String())
		})
	}
}

func TestStatusWithoutAQuorumShowsWhatOneServerHas(t *testing.T) {
	c := startWith(t, func(cfg *api.Config) {
		read := false // it was current once
		cfg.ReadIndex = func(context.Context) error {
			if !read {
				read = true
				return nil
			}
			return errors.New("no quorum")
		}
		cfg.Members = func(context.Context) (any, error) { return threeServers(true, false, false), nil }
	}, clusterAt(commit1, commit1[:12]), revision(commit1, 1, object.RevisionConverged))
	got := c.run(t, "status")
	if got.code != 1 || !strings.Contains(got.out, "no quorum: 1 of 3 servers answer, and 2 are needed: start s2 (10.0.0.2:7443) or s3 (10.0.0.3:7443)") ||
		!strings.Contains(got.out, "1111111 Change 11") {
		t.Errorf("code %d\n%s%s", got.code, got.out, got.err)
	}
	var s Status
	if err := json.Unmarshal([]byte(c.run(t, "status", "-o", "json").out), &s); err != nil || s.NoQuorum == "" || s.Converged || len(s.Servers) != 3 {
		t.Errorf("%v, %+v", err, s)
	}
}

// severalServers is a kubeconfig as a server writes it for several, of which the first is the one that kubectl asks.
func severalServers(t *testing.T, servers ...*httptest.Server) string {
	t.Helper()
	var clusters []string
	for i, s := range servers {
		ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: servers[len(servers)-1].Certificate().Raw}))
		clusters = append(clusters, fmt.Sprintf("{name: c%d, cluster: {server: %q, certificate-authority-data: %s}}", i, s.URL, ca))
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [%s]\nusers: [{name: u, user: {token: %q}}]\n"+
		"contexts: [{name: x, context: {cluster: c0, user: u}}]\ncurrent-context: x\n", strings.Join(clusters, ", "), testToken)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandsAskTheOtherServers(t *testing.T) {
	var asked atomic.Int32
	busy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	good := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"metadata":{"resourceVersion":"7"},"items":[]}`)
	}))
	dead := httptest.NewTLSServer(nil)
	dead.Close()
	t.Cleanup(busy.Close)
	t.Cleanup(good.Close)
	c, err := (&connection{kubeconfig: severalServers(t, dead, busy, good)}).open()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, version, err := list[*object.Revision](t.Context(), c, "", nil); err != nil || version != "7" {
			t.Fatalf("%q, %v", version, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the server that is busy was asked %d times, want it to be left after the first", n)
	}
	good.Close()
	if _, _, err := list[*object.Revision](t.Context(), c, "", nil); err == nil || !strings.Contains(err.Error(), "None of the other 2 addresses") {
		t.Errorf("when none answers: %v", err)
	}
}
