package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/cli"
	"github.com/mainstay-cluster/mainstay/server/join"
)

// listed is what the server of these tests has.
var listed = []join.Listed{
	{ID: "newer", Role: "server", Once: true, State: join.StateGood, Expires: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)},
	{ID: "older", Role: "agent", Uses: 12, State: "expired", Expires: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)},
}

// startAdmin answers on the admin socket of a data directory, which it returns, as a server that has listed does.
func startAdmin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	socket, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(listed) })
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(socket) }() // until Close
	t.Cleanup(func() { srv.Close() })
	return dir
}

func listTokens(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	if code := cli.Execute(t.Context(), cmd, append([]string{"token", "list"}, args...)); code != 0 || errOut.Len() > 0 {
		t.Fatalf("code %d: %s", code, &errOut)
	}
	return out.String()
}

func TestTokenListAsATable(t *testing.T) {
	want := []string{
		"ID      ROLE     STATE     JOINED   ONCE   EXPIRES",
		"newer   server   good      0        yes    " + listed[0].Expires.Local().Format(time.DateTime),
		"older   agent    expired   12       no     " + listed[1].Expires.Local().Format(time.DateTime),
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(listTokens(t, "--data-dir", startAdmin(t))), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTokenListAsData(t *testing.T) {
	dir := startAdmin(t)
	for form, decode := range map[string]func([]byte, any) error{
		"json": json.Unmarshal,
		"yaml": func(data []byte, v any) error { return yaml.Unmarshal(data, v) },
	} {
		t.Run(form, func(t *testing.T) {
			var got []join.Listed
			text := listTokens(t, "--data-dir", dir, "-o", form)
			if err := decode([]byte(text), &got); err != nil {
				t.Fatalf("%v:\n%s", err, text)
			}
			if diff := cmp.Diff(listed, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if isJSON := json.Valid([]byte(text)); isJSON != (form == "json") {
				t.Errorf("is it JSON? %t:\n%s", isJSON, text)
			}
		})
	}
}
