package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fullLook is how often agents look at all containers, whatever events say.
const fullLook = 10 * time.Second

// settledAfter is how old a container is that no other is taken for.
const settledAfter = 12 * time.Second

// lossy loses a third of what nodes send to the server: all is slower, and nothing else.
func (f *fleet) lossy(t *testing.T, probers []prober) {
	f.undisturbed(t, probers, func() {
		f.cut(t, "ip saddr "+f.network.Gateway().String()+"/24 numgen random mod 3 == 0")
		defer f.mend(t)
		for begun := time.Now(); time.Since(begun) < unheard; time.Sleep(time.Second) {
			for _, m := range f.nodes {
				if status, err := f.statusOf(m.name); err == nil && status != "Ready" {
					t.Fatalf("%s is %s", m.name, status)
				}
			}
		}
		f.converge(t, f.commit(t, "while packets are lost", map[string]string{"note.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note}\n"}))
	})
	f.converge(t, f.commit(t, "no note", map[string]string{"note.yaml": ""}))
}

// wiped takes away all that Mainstay had the kernel of a node do for Services.
func (f *fleet) wiped(t *testing.T, m *member, probers []prober) {
	before := f.everywhere(t, f.nodes...)
	tables := 0
	for line := range strings.Lines(m.host.Run(t, "nft", "list", "tables")) {
		if name, ours := strings.CutPrefix(strings.TrimSpace(line), "table ip "); ours && strings.HasPrefix(name, "ms-") {
			m.host.Run(t, "nft", "delete", "table", "ip", name)
			tables++
		}
	}
	if tables == 0 {
		t.Fatal("there was nothing to take away")
	}
	f.eventually(t, "requests are led to Pods again", func() error {
		counts := probers[0].look(t)
		time.Sleep(time.Second)
		after := probers[0].look(t)
		for url, was := range counts {
			if after[url].Failed > was.Failed || after[url].OK == was.OK {
				return fmt.Errorf("%s: %s", url, after[url].Error)
			}
		}
		return nil
	})
	for _, p := range probers {
		p.steady(t, patience)
	}
	kept(t, before, f.everywhere(t, f.nodes...))
}

// rebooted starts a machine anew while there is no server: what ran there runs again, and Services lead to it.
func (f *fleet) rebooted(t *testing.T, m *member) {
	f.ready(t, shopPods)
	others := slices.DeleteFunc(slices.Clone(f.nodes), func(of *member) bool { return of == m })
	names, before, theirs := f.names(t), m.containers(t), f.everywhere(t, others...)
	if len(before) == 0 {
		t.Fatalf("nothing runs on %s", m.name)
	}
	pod, _ := m.webOn(t, "")
	m.eventually(t, "the machine has kept what it was told last", func() error { return m.keeps(pod) })
	f.kill(t)
	m.kill(t)
	m.host.StopEngine(t)
	m.forgetNetwork(t)
	m.host.StartEngine(t, m.engine...)
	f.startAgent(t, m)
	m.eventually(t, "everything runs anew", func() error { return m.runsAnew(t, before) })
	m.eventually(t, "requests are led to what runs there", func() error { return m.led(t, pod) })
	f.serve(t)
	for _, m := range f.nodes {
		f.awaitNode(t, m.name, "Ready")
	}
	f.ready(t, shopPods)
	if diff := cmp.Diff(names, f.names(t)); diff != "" {
		t.Errorf("Pods were replaced:\n%s", diff)
	}
	kept(t, theirs, f.everywhere(t, others...))
}

// keeps says whether a Pod stands in what the machine's agent knows of the network after a restart.
func (m *member) keeps(pod string) error {
	kept, err := os.ReadFile(filepath.Join(m.data, "node", "routes.json"))
	if err == nil && !strings.Contains(string(kept), `"`+pod+`"`) {
		err = fmt.Errorf("nothing of %s is kept", pod)
	}
	return err
}

// forgetNetwork leaves of a host's network what a machine has that was just switched on.
func (m *member) forgetNetwork(t *testing.T) {
	t.Helper()
	m.host.Run(t, "nft", "flush", "ruleset")
	for line := range strings.Lines(m.host.Run(t, "ip", "-o", "link", "show")) {
		_, rest, _ := strings.Cut(line, ": ")
		name, _, _ := strings.Cut(rest, ":")
		name, _, _ = strings.Cut(name, "@")
		if name != "lo" && name != "eth0" {
			_ = m.host.Command(t.Context(), "ip", "link", "del", name).Run() // the other end of one that is gone is gone, too
		}
	}
}

// muddled runs containers that look like Mainstay's, one by its labels and one by its name, and prunes the engine: they are left
// alone, and nothing that runs is touched.
func (f *fleet) muddled(t *testing.T, m *member, probers []prober) {
	var copies []string
	f.undisturbed(t, probers, func() {
		time.Sleep(settledAfter)
		_, name := m.webOn(t, "")
		was := m.containers(t)[name]
		var inspect struct {
			Config struct{ Labels map[string]string }
		}
		m.host.API(t, "GET", "/containers/"+was.ID+"/json", nil, &inspect)
		copies = []string{m.runs(t, "copied-labels", inspect.Config.Labels), m.runs(t, strings.Replace(name, "ms_app_", "ms_app_my-", 1), nil)}
		m.host.API(t, "POST", "/images/prune", nil, nil)
		m.host.API(t, "POST", "/containers/prune", nil, nil)
		m.host.API(t, "POST", "/networks/prune", nil, nil)
		m.host.API(t, "POST", "/volumes/prune", nil, nil)
		time.Sleep(2 * fullLook) // without events there is nothing to look at but all
		for _, id := range copies {
			if !m.running(t, id) {
				t.Errorf("a container of somebody else's was stopped: %s", id)
			}
			m.host.API(t, "DELETE", "/containers/"+id+"?force=1", nil, nil)
		}
	})
}

// runs starts a container of somebody else's on a host.
func (m *member) runs(t *testing.T, name string, labels map[string]string) (id string) {
	t.Helper()
	var made struct {
		ID string `json:"Id"`
	}
	m.host.API(t, "POST", "/containers/create?name="+name, map[string]any{
		"Image": "hello:1.0", "Labels": maps.Clone(labels), "HostConfig": map[string]any{"NetworkMode": "none"},
	}, &made)
	m.host.API(t, "POST", "/containers/"+made.ID+"/start", nil, nil)
	return made.ID
}
