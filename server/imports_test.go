package server_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mainstay-cluster/mainstay/"

// allowed says which of Mainstay's own packages each package may import, directly; "*" is any below it. The arrows of
// docs/architecture.md: data flows one way, siblings never import each other, nothing calls back up.
var allowed = map[string]string{
	"object":                   "",
	"object/kube":              "object",
	"object/kube/gendocs":      "object object/kube",
	"state":                    "object",
	"state/tables":             "object state",
	"state/raftlog":            "state",
	"state/statetest":          "object state state/tables",
	"plan":                     "object state",
	"gitsync/load":             "object object/kube",
	"gitsync":                  "object object/kube plan state gitsync/load",
	"controllers/engine":       "object state",
	"controllers/event":        "object state state/tables",
	"controllers/podcontrol":   "object state state/tables controllers/event",
	"controllers/*":            "object object/kube state state/tables controllers/engine controllers/event controllers/podcontrol",
	"sched":                    "object state state/tables",
	"simulate":                 "object plan state controllers/engine sched",
	"node/link":                "object",
	"node/runtime":             "object",
	"node/runtime/runtimetest": "node/runtime",
	"node/podnet":              "object",
	"node/docker":              "object node/runtime node/podnet",
	"node":                     "object node/runtime node/link",
	"api":                      "object object/kube state state/tables plan node/link",
	"cli":                      "object object/kube plan gitsync/load",
	"server/pki":               "",
	"server":                   "*",
	"cmd/mainstay":             "cli server",
	"testhost":                 "",
	"examples/hello":           "",
	"e2e/get":                  "",
}

// foreign confines a library to one package, so that replacing it is one package's change.
var foreign = map[string]string{
	"k8s.io/kubernetes/":              "object/kube",
	"github.com/docker/docker/client": "node/docker testhost",
	"github.com/hashicorp/raft":       "state/raftlog",
	"github.com/vishvananda/netlink":  "node/podnet",
}

type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		rule, known := allowed[name]
		if !known && strings.HasPrefix(name, "controllers/") {
			rule, known = allowed["controllers/*"], true
		}
		if !known {
			t.Errorf("package %s is not in the table: say what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			own, isOwn := strings.CutPrefix(imported, module)
			if isOwn && rule != "*" && !slices.Contains(strings.Fields(rule), own) {
				t.Errorf("%s imports %s, which it may not", name, own)
			}
			for library, users := range foreign {
				if strings.HasPrefix(imported, library) && !slices.Contains(strings.Fields(users), name) {
					t.Errorf("%s imports %s, which only %s may", name, imported, users)
				}
			}
		}
	}
}

func TestApplyIsDeterministic(t *testing.T) {
	out, err := exec.Command("grep", "-nE", `^\s+"(time|math/rand|math/rand/v2|os|net)"$`, "../state/apply.go", "../state/entry.go").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("state's Apply must not reach clocks, randomness or I/O (%v):\n%s", err, out)
	}
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}
