package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mainstay-cluster/mainstay/cli"
)

// refused is what cannot work.
var refused = []struct {
	name string
	args []string
	says string
}{
	{"agent without a server", []string{"agent"}, "--server HOST:PORT"},
	{"agent with an address that is none", []string{"agent", "--server", "127.0.0.1:1", "--node-ip", "here"}, "--node-ip must be an address"},
	{"agent without a token", []string{"agent", "--server", "127.0.0.1:1"}, "mainstay token create --role agent"},
	{"agent with a slip for a token", []string{"agent", "--server", "127.0.0.1:1", "--token", "very-secret"}, "this is not a join token"},
	{"agent with words", []string{"agent", "127.0.0.1:1"}, "takes no arguments"},
	{"cleanup of no agent", []string{"agent", "--cleanup"}, "no agent has joined a cluster"},
	{"server without a repository", []string{"server"}, "--repo"},
	{"server with a repository that is none", []string{"server", "--repo", "/nowhere/at/all", "--listen", "127.0.0.1:0"}, "there is no repository at"},
	{"server with a flag of up", []string{"server", "--repo", "x", "--node-name", "n1"}, "--node-name"},
	{"token for nothing", []string{"token", "create"}, "--role agent"},
	{"token for nobody", []string{"token", "create", "--role", "boss"}, "--role agent or --role server"},
	{"token without a server", []string{"token", "create", "--role", "agent"}, "no server runs here"},
	{"tokens without a server", []string{"token", "list"}, "no server runs here"},
	{"revoking without a server", []string{"token", "revoke", "abc"}, "no server runs here"},
	{"revoking nothing", []string{"token", "revoke"}, "`mainstay token revoke` takes one argument, the ID of a token, not 0"},
	{"saving twice", []string{"snapshot", "save", "a", "b"}, "takes one argument, the FILE of the snapshot, not 2"},
	{"handing over to two", []string{"server", "transfer", "a", "b"}, "takes at most one argument, the NAME of a server, not 2"},
	{"a slip in a command", []string{"token", "lsit"}, `no command "token lsit"; did you mean list?`},
	{"a slip in a command that runs", []string{"server", "ilst"}, `no command "server ilst"; did you mean list?`},
	{"no such command", []string{"ca", "nonsense"}, "no command \"ca nonsense\"; `mainstay ca --help` lists them"},
	{"tokens in a form that is none", []string{"token", "list", "-o", "wide"}, "the formats are json, yaml"},
}

// What cannot work is refused before anything is made, with the exit code of an error and a word on what to do.
func TestMachinesCommandsSayWhatIsWrong(t *testing.T) {
	for _, tc := range refused {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			t.Setenv("MAINSTAY_DATA_DIR", dir)
			for _, name := range []string{"MAINSTAY_REPO", "MAINSTAY_SERVER", "MAINSTAY_TOKEN"} {
				t.Setenv(name, "")
			}
			var out bytes.Buffer
			cmd := root()
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			if code := cli.Execute(t.Context(), cmd, tc.args); code != 2 || !strings.Contains(out.String(), tc.says) {
				t.Errorf("code %d, want 2 and %q:\n%s", code, tc.says, &out)
			}
			if strings.Contains(out.String(), "very-secret") {
				t.Errorf("P11: a token is quoted:\n%s", &out)
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if e.Name() != "lock" {
					t.Errorf("it made %s", e.Name())
				}
			}
		})
	}
}
