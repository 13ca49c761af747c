package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

func TestARepositoryThatCannotBeReadIsToldOnceUntilThatChanges(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "repo")
	synctest.Test(t, func(t *testing.T) {
		said := newLines()
		s := &server{cfg: Config{Git: gitsync.Config{Repo: repo}}, log: slog.New(slog.NewTextHandler(said, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := s.readCluster(ctx)
			done <- err
		}()
		time.Sleep(20*retryRepository + retryRepository/2) // never while it looks
		if told := strings.Count(said.String(), "cannot be read"); told != 1 {
			t.Errorf("it is told %d times:\n%s", told, said)
		}
		if err := os.WriteFile(repo, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*retryRepository + retryRepository/2) // never while it looks
		if told := strings.Count(said.String(), "cannot be read"); told != 2 {
			t.Errorf("it is another error now; told %d times:\n%s", told, said)
		}
		cancel()
		if err := <-done; err == nil {
			t.Error("the cluster is known")
		}
	})
}

func TestAnAgentWhoseServerIsDownSaysWhoAndWhatToCheck(t *testing.T) {
	authority, err := pki.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	token := "mainstay1." + authority.Pin() + ".abcdefgh.secret"
	said, data := newLines(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- runAgent(ctx, AgentConfig{Servers: []string{"127.0.0.1:1"}, Token: token, DataDir: data, NodeName: "n1", Log: slog.New(slog.NewTextHandler(said, nil))}, nil)
	}()
	for _, what := range []string{"the agent keeps trying", "https://127.0.0.1:1", "refused", "check that a server runs there"} {
		said.await(t, what)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
