package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// restoredWithin is how long Pods may take to be Ready once an engine that took them along is back.
const restoredWithin = 30 * time.Second

// condition is the status of a node's condition.
func (f *fleet) condition(t testing.TB, node, condition string) string {
	t.Helper()
	var found struct {
		Status struct {
			Conditions []struct{ Type, Status string }
		}
	}
	if err := json.Unmarshal([]byte(f.mainstay(t, "get", "node", node, "-o", "json")), &found); err != nil {
		t.Fatal(err)
	}
	for _, c := range found.Status.Conditions {
		if c.Type == condition {
			return c.Status
		}
	}
	return ""
}

// engineDies kills an engine without live-restore: what ran there runs again, and nothing else is touched.
func (f *fleet) engineDies(t *testing.T, m *member, probers []prober) {
	f.ready(t, shopPods)
	for node, want := range map[string]string{m.name: "False", f.nodes[0].name: "True"} {
		if got := f.condition(t, node, "LiveRestore"); got != want {
			t.Errorf("node %s: LiveRestore is %q, want %s", node, got, want)
		}
	}
	others := slices.DeleteFunc(slices.Clone(f.nodes), func(of *member) bool { return of == m })
	names, before, theirs := f.names(t), m.containers(t), f.everywhere(t, others...)
	if len(before) == 0 {
		t.Fatalf("nothing runs on %s", m.name)
	}
	m.host.KillEngine(t)
	m.host.StartEngine(t, m.engine...)
	up := time.Now()
	f.eventually(t, "everything runs anew", func() error { return m.runsAnew(t, before) })
	f.ready(t, shopPods)
	if took := time.Since(up); took > restoredWithin {
		t.Errorf("the Pods are Ready %s after the engine is back", took)
	} else {
		t.Logf("the Pods are Ready %s after the engine is back", took)
	}
	for _, p := range probers {
		p.steady(t, patience)
	}
	if diff := cmp.Diff(names, f.names(t)); diff != "" {
		t.Errorf("Pods were replaced:\n%s", diff)
	}
	kept(t, theirs, f.everywhere(t, others...))
	f.undisturbed(t, probers, func() {})
}

// runsAnew is an error unless a node runs as many containers as before, and none of those.
func (m *member) runsAnew(t testing.TB, before map[string]container) error {
	now := m.containers(t)
	if len(now) != len(before) {
		return fmt.Errorf("%d containers run, %d did before", len(now), len(before))
	}
	old := map[int]bool{}
	for _, c := range before {
		old[c.Pid] = true
	}
	for name, c := range now {
		if old[c.Pid] {
			return errors.New(name + " still runs")
		}
	}
	return nil
}

// replaced gives a node's name to a machine that knows nothing: its Pods run there again, as themselves.
func (f *fleet) replaced(t *testing.T, m *member, probers []prober) {
	f.converge(t, f.commit(t, "time for a repair", map[string]string{"mainstay.yaml": strings.Replace(shop["mainstay.yaml"], "5s", "60s", 1)}))
	f.ready(t, shopPods)
	others := slices.DeleteFunc(slices.Clone(f.nodes), func(of *member) bool { return of == m })
	names, before, theirs := f.names(t), m.containers(t), f.everywhere(t, others...)
	if len(before) == 0 {
		t.Fatalf("nothing runs on %s", m.name)
	}
	m.kill(t)
	m.host.StopEngine(t)
	m.host.WipeEngine(t)
	if err := os.RemoveAll(m.data); err != nil {
		t.Fatal(err)
	}
	f.awaitNode(t, m.name, "NotReady") // until then its name is taken
	for _, p := range probers {
		p.steady(t, patience)
	}
	m.host.StartEngine(t, m.engine...)
	equip(t, m.host)
	f.spared(t, others, probers, func() {
		f.join(t, m)
		f.awaitNode(t, m.name, "Ready")
		f.ready(t, shopPods)
	})
	if diff := cmp.Diff(names, f.names(t)); diff != "" {
		t.Errorf("Pods were replaced:\n%s", diff)
	}
	kept(t, theirs, f.everywhere(t, others...))
	if err := m.runsAnew(t, before); err != nil {
		t.Error(err)
	}
}
