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
	"durable":                  "",
	"object":                   "",
	"object/kube":              "object",
	"state":                    "object",
	"state/tables":             "object state",
	"state/event":              "object state",
	"state/raftlog":            "state durable",
	"state/statetest":          "object state state/tables",
	"plan":                     "object state",
	"gitsync/load":             "object object/kube",
	"gitsync":                  "object object/kube plan state gitsync/load",
	"controllers/engine":       "object state",
	"controllers/podcontrol":   "object state state/tables state/event",
	"controllers/*":            "object object/kube state state/tables state/event controllers/engine controllers/podcontrol",
	"sched":                    "object state state/tables state/event",
	"simulate":                 "object plan state controllers/engine sched",
	"node/link":                "object",
	"node/link/linktest":       "node/link",
	"node/runtime":             "object",
	"node/runtime/runtimetest": "node/runtime",
	"node/ping":                "",
	"node/podnet":              "object",
	"node/nft":                 "",
	"node/proxy":               "object node/link node/nft",
	"node/dns":                 "object node/link",
	"node/policy":              "object node/link node/nft",
	"node/docker":              "object node/runtime node/podnet",
	"node/routing":             "object node/link durable",
	"node":                     "object node/runtime node/link node/routing durable",
	"api/netpolicy":            "object state state/tables node/link",
	"api/netpolicy/suite":      "",
	"api":                      "object object/kube state state/tables plan node/link api/netpolicy",
	"cli":                      "object object/kube plan gitsync/load",
	"server/pki":               "durable",
	"server/join":              "object plan state state/tables node/link server/pki",
	"server/backup":            "object plan state state/tables",
	"server":                   "*",
	"cmd/mainstay":             "cli server server/backup server/join",
	"testhost":                 "",
	"examples/hello":           "",
	"e2e/chaos":                "e2e/chaos/history node/link/linktest server/pki testhost",
	"e2e/chaos/history":        "",
	"e2e/fleetload":            "node/link/linktest server/pki",
	"e2e/get":                  "",
	"e2e/probe":                "",
}

// foreign confines a library to one package, so that replacing it is one package's change.
var foreign = map[string]string{
	"k8s.io/kubernetes/":              "object/kube",
	"github.com/docker/docker/client": "node/docker testhost",
	"github.com/hashicorp/raft":       "state/raftlog",
	"github.com/vishvananda/netlink":  "node/podnet node/proxy node/nft",
	"github.com/miekg/dns":            "node/dns",
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

// heavy are packages that must not be linked: each made the program, whose pages are most of its memory, larger by a fifth or more.
var heavy = map[string]string{
	"golang.org/x/net/trace":                         "runs templates, so that the linker keeps every exported method",
	"k8s.io/client-go/kubernetes":                    "is a client for every kind of Kubernetes",
	"k8s.io/kubernetes/pkg/printers/internalversion": "brings every version of every group",
	"k8s.io/kubernetes/pkg/apis/apps/install":        "brings every version of its group: add the one version to object/kube's groups",
	"k8s.io/kubernetes/pkg/apis/core/install":        "brings every version of its group: add the one version to object/kube's groups",
	"k8s.io/kubernetes/pkg/apis/batch/install":       "brings every version of its group: add the one version to object/kube's groups",
	"k8s.io/kubernetes/pkg/apis/networking/install":  "brings every version of its group: add the one version to object/kube's groups",
}

func TestTheProgramStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"cmd/mainstay").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, module+"server") {
		t.Fatalf("go list names %d packages and not the server", len(linked))
	}
	for _, p := range linked {
		if why := heavy[p]; why != "" {
			t.Errorf("%s is linked, which %s", p, why)
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
