package server

import (
	"log/slog"
	"net"
	"testing"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/state"
)

func TestNodeKeepsTheNameThatItsPodsAreBoundTo(t *testing.T) {
	dir := t.TempDir()
	named := func(name string) (string, error) {
		return nodeName(dir, name)
	}
	if got, err := named("n1"); got != "n1" || err != nil {
		t.Fatalf("first start: name = %q, %v, want the configured one", got, err)
	}
	if got, err := named(""); got != "n1" || err != nil {
		t.Errorf("the host was renamed: name = %q, %v, want n1", got, err)
	}
	if got, err := named("n2"); err == nil {
		t.Errorf("another name was configured: name = %q, want an error", got)
	}
}

func TestServerThatReplaysItsLogIsNotReadyThoughTheClusterShows(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, stop := s.start(t)
	until(t, running, "3 Pods run", converged(3))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	replaying, err := newServer(t.Context(), Config{Git: gitsync.Config{Repo: s.repo}, DataDir: s.data, Log: slog.New(slog.DiscardHandler)}, listener)
	if err != nil {
		t.Fatal(err)
	}
	defer replaying.raft.Close()
	until(t, replaying, "the Cluster shows", func(r state.Reader) bool { return plan.LiveCluster(r) != nil })
	if err := replaying.ready(); err == nil {
		t.Error("ready, want not ready before the state is known to be complete")
	}
}
