package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

func TestMachinesJoinAndRunPods(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	for _, name := range []string{"n1", "n2", "n3"} {
		newMachine(t, name).agent(t, running, token)
	}
	until(t, running, "three nodes are Ready", nodesReady("n1", "n2", "n3"))
	until(t, running, "3 Pods run", converged(3))
	for pod := range state.List[*corev1.Pod](running.store.View(), "") {
		if pod.Status.Phase != corev1.PodRunning {
			t.Errorf("pod %s on %s is %s", pod.Name, pod.Spec.NodeName, pod.Status.Phase)
		}
	}
}

// A machine that is a node already needs no token to go on, and nothing it runs is touched.
func TestAgentGoesOnWithoutAToken(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	m := newMachine(t, "n1")
	stop := m.agent(t, running, s.token(t, join.Wanted{Role: object.RoleAgent, Once: true}))
	until(t, running, "3 Pods run", converged(3))
	before := len(touched(m.host))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	m.agent(t, running, "")
	until(t, running, "it is Ready again", nodesReady("n1"))
	s.commit(t, map[string]string{"web.yaml": strings.Replace(web, "replicas: 3", "replicas: 4", 1)})
	until(t, running, "4 Pods run", converged(4))
	started := 0
	for _, call := range touched(m.host)[before:] {
		if call.Method == "StopContainer" || call.Method == "RemovePod" {
			t.Errorf("P5: the restart made this call: %v", call)
		}
		if call.Method == "StartContainer" {
			started++
		}
	}
	if started != 1 {
		t.Errorf("%d containers were started, want the one that is new", started)
	}
}

func TestAgentThatCannotJoinSaysWhatToDo(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	other, err := pki.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	good := s.token(t, join.Wanted{Role: object.RoleAgent})
	parsed, err := join.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ token, says string }{
		"none":            {"", "mainstay token create --role agent"},
		"no token":        {"sesame", "not a join token"},
		"a server's":      {s.token(t, join.Wanted{Role: object.RoleServer}), "is for the role server"},
		"another cluster": {strings.Replace(good, parsed.Pin, other.Pin(), 1), "not of the cluster that the token is for"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "n1")
			err := runAgent(t.Context(), AgentConfig{Servers: []string{running.reachable}, Token: tc.token, DataDir: m.data, NodeName: "n1", Log: slog.New(slog.DiscardHandler)}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("err = %v, want %q", err, tc.says)
			}
		})
	}
}

func TestAdminSocketIsTheOwnersAlone(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	s.token(t, join.Wanted{Role: object.RoleAgent})
	info, err := os.Stat(filepath.Join(s.data, adminSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v (%v), want 0600", info.Mode(), err)
	}
	for uid, want := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, 4242: false} {
		if got := mayAdminister(context.WithValue(t.Context(), peerKey{}, uid)); got != want {
			t.Errorf("user %d may: %t, want %t", uid, got, want)
		}
	}
	if mayAdminister(t.Context()) {
		t.Error("somebody of whom nothing is known may administer")
	}
}

func TestTokensAreListedAndRevoked(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	admin, token := Admin{DataDir: s.data}, s.token(t, join.Wanted{Role: object.RoleAgent})
	parsed, err := join.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	if known, err := admin.RevokeToken(t.Context(), parsed.ID); !known || err != nil {
		t.Errorf("revoked: %t, %v", known, err)
	}
	if known, err := admin.RevokeToken(t.Context(), "nothing"); known || err != nil {
		t.Errorf("a token that is not there: %t, %v", known, err)
	}
	list, err := admin.Tokens(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != parsed.ID || list[0].State != "revoked" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := (Admin{DataDir: t.TempDir()}).Tokens(t.Context()); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("where no server runs: %v", err)
	}
}

// A name that was refused is not kept: the next attempt may use another.
func TestRefusedNameMayBeReplacedByAnother(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return state.Len[*object.Cluster](r) == 1 })
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	newMachine(t, "n1").agent(t, running, token)
	until(t, running, "n1 is Ready", nodesReady("n1"))
	m := newMachine(t, "n1")
	err := runAgent(t.Context(), AgentConfig{Servers: []string{running.reachable}, Token: token, DataDir: m.data, NodeName: "n1", Log: slog.New(slog.DiscardHandler)}, nil)
	if err == nil || !strings.Contains(err.Error(), "--node-name") {
		t.Fatalf("a living node's name: %v, want advice to give another", err)
	}
	m.name = "n2"
	m.agent(t, running, token)
	until(t, running, "n2 is Ready, too", nodesReady("n1", "n2"))
}
