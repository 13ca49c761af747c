package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	// unheard is longer than a server waits for a node before it calls it NotReady.
	unheard = 22 * time.Second
	// probesFail is how long the probes of deployment take to see that a Pod no longer answers, on a loaded machine.
	probesFail = 30 * time.Second
	// unevenly is longer than nodes that go together take to be NotReady, one after the other.
	unevenly = 10 * time.Second
)

// TestFaultsOfManyNodes is about what else may happen to a fleet of four, of which the fourth has an engine that takes its
// containers along when it dies.
func TestFaultsOfManyNodes(t *testing.T) {
	t.Parallel() // It waits for most of its time.
	f := newControl(t, shop)
	n1, n2, n3 := f.grow(t), f.grow(t), f.grow(t)
	n4 := f.grow(t, "--live-restore=false", "--insecure-registry="+f.network.Gateway().String()+"/32")
	f.deploy(t, shop)
	probers := f.probes(t, n1, n2)

	t.Run("every way to a Pod", func(t *testing.T) { f.waysToPods(t) })
	t.Run("NetworkPolicy holds across hosts", func(t *testing.T) { f.walled(t) })
	t.Run("an agent is killed at each step", func(t *testing.T) { f.killedAtEachStep(t, n4, probers) })
	t.Run("nodes are cut off from each other", func(t *testing.T) { f.apart(t, n2, n3, probers[0].only(n1.url())) })
	t.Run("no server for a while", func(t *testing.T) { f.alone(t, n2) })
	t.Run("an engine that restores nothing is killed", func(t *testing.T) { f.engineDies(t, n4, probers) })
	t.Run("a machine is started anew without a server", func(t *testing.T) { f.rebooted(t, n4) })
	t.Run("a node is cut off from the server until it is replaced", func(t *testing.T) { f.outlasted(t, n3, probers) })
	t.Run("a node is replaced under its name", func(t *testing.T) { f.replaced(t, n4, probers) })
	t.Run("most nodes are gone at once", func(t *testing.T) { f.braked(t, []*member{n2, n3, n4}, probers) })
}

// url is where Service web is reached through a node.
func (m *member) url() string { return "http://" + m.host.IP.String() + nodePort + "/" }

// cut drops everything that comes to a host from others, by a rule that mend removes.
func (c *cluster) cut(t testing.TB, match string) {
	t.Helper()
	c.host.Run(t, "nft", "add table ip cut; add chain ip cut in { type filter hook prerouting priority -500; }; add rule ip cut in "+match+" drop")
}

func (c *cluster) mend(t testing.TB) {
	t.Helper()
	c.host.Run(t, "nft", "delete table ip cut")
}

// hardware is the address of a host's link to the others.
func (m *member) hardware(t testing.TB) string {
	t.Helper()
	_, rest, _ := strings.Cut(m.host.Run(t, "ip", "-o", "link", "show", "eth0"), "link/ether ")
	address, _, _ := strings.Cut(rest, " ")
	return address
}

// answering asks Service web through a node for a while, and returns which Pods answered.
func (m *member) answering(t testing.TB) map[string]bool {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	found := map[string]bool{}
	for range 100 {
		response, err := client.Get(m.url())
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "from ")
		name, _, _ := strings.Cut(rest, ",")
		found[name] = true
	}
	return found
}

// apart cuts two nodes off from each other, but not from the server.
func (f *fleet) apart(t *testing.T, a, b *member, through prober) {
	f.undisturbed(t, []prober{through}, func() {
		a.host.Run(t, "busybox", "ping", "-c1", "-W30", b.host.IP.String())
		for _, pair := range [][2]*member{{a, b}, {b, a}} {
			pair[0].cut(t, "ether saddr "+pair[1].hardware(t))
			defer pair[0].mend(t)
		}
		if _, err := a.host.Command(t.Context(), "busybox", "ping", "-c1", "-W1", b.host.IP.String()).Output(); err == nil {
			t.Errorf("%s still reaches %s", a.name, b.name)
		}
		for begun := time.Now(); time.Since(begun) < unheard; time.Sleep(time.Second) {
			for _, m := range []*member{a, b} {
				if status, err := f.statusOf(m.name); err == nil && status != "Ready" {
					t.Fatalf("%s is %s", m.name, status)
				}
			}
		}
		if got := f.nodes[0].answering(t); len(got) != 6 {
			t.Errorf("through %s, %d of the 6 Pods of web answer: %v", f.nodes[0].name, len(got), got)
		}
	})
}

// webOn is a Pod of web on a node, other than the one given, and the name of its container.
func (m *member) webOn(t testing.TB, not string) (pod, name string) {
	t.Helper()
	for name := range m.containers(t) {
		if rest, ok := strings.CutPrefix(name, "ms_app_"); ok && strings.HasPrefix(rest, "web-") {
			if pod, _, _ = strings.Cut(rest, "_"); pod != not {
				return pod, name
			}
		}
	}
	t.Fatalf("web has too few Pods on %s: %v", m.name, m.containers(t))
	return "", ""
}

// alone takes the server away: the agent of a node restarts what dies, and its Services lead to what lives.
func (f *fleet) alone(t *testing.T, m *member) {
	f.ready(t, shopPods)
	before := f.everywhere(t, f.nodes...)
	f.kill(t)
	killed, name := m.restartsAlone(t)
	delete(before, m.name+" "+name)
	f.routesAlone(t, m, killed)
	f.serve(t)
	for _, m := range f.nodes {
		f.awaitNode(t, m.name, "Ready")
	}
	f.ready(t, shopPods)
	kept(t, before, f.everywhere(t, f.nodes...))
	f.eventually(t, "the restart is known", func() error {
		for _, p := range f.pods(t) {
			if want := map[bool]int{true: 1}[p.Name == killed]; p.Restarts != want {
				return fmt.Errorf("%s is said to have been restarted %d times, want %d", p.Name, p.Restarts, want)
			}
		}
		return nil
	})
}

// restartsAlone kills a container of web and returns its Pod and its name, once the Pod answers again.
func (m *member) restartsAlone(t *testing.T) (pod, name string) {
	pod, name = m.webOn(t, "")
	was := m.containers(t)[name]
	m.host.API(t, "POST", "/containers/"+was.ID+"/kill", nil, nil)
	m.eventually(t, "what was killed runs again", func() error {
		for name, c := range m.containers(t) {
			if strings.HasPrefix(name, "ms_app_"+pod+"_") && c.ID != was.ID {
				return nil
			}
		}
		return errors.New("it does not")
	})
	m.eventually(t, "requests are led to it", func() error { return m.led(t, pod) })
	return pod, name
}

// routesAlone freezes a container of web, of another Pod than the one given: requests are led past it once its probes fail.
func (f *fleet) routesAlone(t *testing.T, m *member, not string) {
	frozen, name := m.webOn(t, not)
	pid := m.containers(t)[name].Pid
	through := f.probe(t, m.url())
	through.steady(t, patience)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	m.eventually(t, "requests that are led to it fail", func() error {
		if through.look(t)[m.url()].Failed == 0 {
			return errors.New("none has")
		}
		return nil
	})
	counts := through.steady(t, probesFail)
	t.Logf("nothing is led to what does not answer after %s", time.Since(begun))
	time.Sleep(2 * time.Second) // of requests
	through.faultless(t, counts)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.eventually(t, "requests are led to what answers again", func() error { return m.led(t, frozen) })
}

// led is an error unless a Pod answers requests through the node.
func (m *member) led(t testing.TB, pod string) error {
	if got := m.answering(t); !got[pod] {
		return fmt.Errorf("%v answer, not %s", got, pod)
	}
	return nil
}

// names are the Pods there are.
func (f *fleet) names(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, p := range f.pods(t) {
		names = append(names, p.Name+" "+p.UID)
	}
	slices.Sort(names)
	return names
}

// outlasted cuts a node off from the server alone, for longer than its Pods may stay: both they and their replacements serve.
func (f *fleet) outlasted(t *testing.T, m *member, probers []prober) {
	f.ready(t, shopPods)
	others := slices.DeleteFunc(slices.Clone(f.nodes), func(of *member) bool { return of == m })
	probers = append(probers, f.probe(t, m.url()))
	mine, theirs := m.containers(t), f.everywhere(t, others...)
	if len(mine) == 0 {
		t.Fatalf("nothing runs on %s", m.name)
	}
	var counts []map[string]tally
	for _, p := range probers {
		counts = append(counts, p.steady(t, patience))
	}
	begun := time.Now()
	f.cut(t, "ip saddr "+m.host.IP.String())
	f.awaitNode(t, m.name, "NotReady")
	f.eventually(t, "replaced", func() error { return f.runsElsewhere(m.name) })
	t.Logf("replaced after %s", time.Since(begun))
	if diff := cmp.Diff(mine, m.containers(t)); diff != "" {
		t.Errorf("what runs on the node that is cut off was touched:\n%s", diff)
	}
	names := f.names(t)
	f.mend(t)
	f.awaitNode(t, m.name, "Ready")
	f.eventually(t, "what was replaced is gone from "+m.name, func() error {
		if left := m.containers(t); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	f.ready(t, shopPods)
	if diff := cmp.Diff(names, f.names(t)); diff != "" {
		t.Errorf("the node's return changed Pods:\n%s", diff)
	}
	kept(t, theirs, f.everywhere(t, others...))
	time.Sleep(2 * time.Second) // of requests
	for i, p := range probers {
		p.faultless(t, counts[i])
	}
}

// braked cuts most nodes off from the server for longer than their Pods may stay: that is the server's trouble rather than theirs,
// so nothing is replaced.
func (f *fleet) braked(t *testing.T, lost []*member, probers []prober) {
	f.converge(t, f.commit(t, "web 2.0 on all nodes", map[string]string{
		"mainstay.yaml": strings.Replace(shop["mainstay.yaml"], "5s", unevenly.String(), 1),
		"web.yaml":      strings.Replace(shop["web.yaml"], "hello:1.0", "hello:2.0", 1),
	}))
	f.ready(t, shopPods)
	for _, m := range lost {
		m.webOn(t, "")
	}
	names, before := f.names(t), f.everywhere(t, f.nodes...)
	for _, m := range lost {
		f.cut(t, "ip saddr "+m.host.IP.String())
	}
	mend := sync.OnceFunc(func() { f.mend(t) })
	defer mend()
	for _, m := range lost {
		f.awaitNode(t, m.name, "NotReady")
	}
	time.Sleep(unevenly + programmed) // each Pod has had its time
	if diff := cmp.Diff(names, f.names(t)); diff != "" {
		t.Errorf("Pods were replaced:\n%s", diff)
	}
	mend()
	for _, m := range lost {
		f.awaitNode(t, m.name, "Ready")
	}
	f.ready(t, shopPods)
	if diff := cmp.Diff(names, f.names(t)); diff != "" {
		t.Errorf("the nodes' return replaced Pods:\n%s", diff)
	}
	kept(t, before, f.everywhere(t, f.nodes...))
	for _, p := range probers {
		p.steady(t, patience)
	}
}
