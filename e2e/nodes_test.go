package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// webAddress is the cluster address of Service web.
const webAddress = "10.96.0.200"

// shop is what the fleet runs: two Services, of which one has a port on every node, and a prober in a Pod that asks for both by
// name all the time.
var shop = map[string]string{
	"mainstay.yaml": "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: fleet}\nspec: {evictAfter: 5s}\n",
	"web.yaml":      deployment("web", "hello:1.0", 6) + service("web", "NodePort", "nodePort: 30080", "clusterIP: "+webAddress),
	"api.yaml":      deployment("api", "hello:1.0", 3) + service("api", "ClusterIP", "", ""),
	"probe.yaml": `apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  nodeName: n1
  containers:
  - name: app
    image: probe:1.0
    ports: [{containerPort: 9000, hostPort: 9000}]
    args: [":9000", "http://` + webAddress + `/", "http://web/", "http://web.default.svc.cluster.local/healthz", "http://api.default/"]
`,
}

func service(app, kind, port, more string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  type: %[2]s
  selector: {app: %[1]s}
  ports:
  - port: 80
    targetPort: http
    %[3]s
  %[4]s
`, app, kind, port, more)
}

// shopPods are all Pods of shop.
const shopPods = 10

// probes are a prober outside, which asks through the given nodes, and the one in a Pod.
func (f *fleet) probes(t testing.TB, through ...*member) []prober {
	t.Helper()
	var urls []string
	for _, m := range through {
		urls = append(urls, "http://"+m.host.IP.String()+nodePort+"/")
	}
	outside := f.probe(t, urls...)
	return []prober{outside, {at: f.nodes[0].host.IP.String() + probePort}}
}

// undisturbed runs a fault that must neither touch a container nor fail a request.
func (f *fleet) undisturbed(t *testing.T, probers []prober, fault func()) {
	t.Helper()
	f.ready(t, shopPods)
	f.spared(t, f.nodes, probers, fault)
}

// spared runs a fault that must neither touch a container of some nodes nor fail a request.
func (f *fleet) spared(t *testing.T, nodes []*member, probers []prober, fault func()) {
	t.Helper()
	before := f.everywhere(t, nodes...)
	var counts []map[string]tally
	for _, p := range probers {
		counts = append(counts, p.steady(t, patience))
	}
	fault()
	time.Sleep(2 * time.Second) // of requests: the prober counts what nobody tells
	for i, p := range probers {
		p.faultless(t, counts[i])
	}
	if diff := cmp.Diff(before, f.everywhere(t, nodes...)); diff != "" {
		t.Errorf("containers were touched (-before +after):\n%s", diff)
	}
}

func TestManyNodes(t *testing.T) {
	t.Parallel() // It waits for most of its time.
	f := newFleet(t, 3, shop)
	n1, n2, n3 := f.nodes[0], f.nodes[1], f.nodes[2]
	probers := f.probes(t, n1, n2)

	t.Run("Services are reached through every node and by name", func(t *testing.T) {
		f.undisturbed(t, probers, func() {})
	})
	t.Run("agents are killed", func(t *testing.T) {
		f.undisturbed(t, []prober{probers[0], probers[1].only("http://" + webAddress + "/")}, func() { // what is asked of an agent as it dies is lost
			for _, m := range f.nodes {
				m.kill(t)
				time.Sleep(time.Second) // of requests without an agent
				f.startAgent(t, m)
			}
		})
	})
	t.Run("agents restart", func(t *testing.T) {
		f.undisturbed(t, probers, func() {
			for _, m := range f.nodes {
				m.stop(t)
				f.startAgent(t, m)
				f.awaitNames(t, m) // as long as the agents of other nodes answer its Pods
			}
		})
	})
	t.Run("the server restarts", func(t *testing.T) {
		f.undisturbed(t, probers, func() {
			f.kill(t)
			time.Sleep(3 * time.Second) // of requests without a server
			f.serve(t)
			f.awaitNode(t, "n3", "Ready")
		})
	})
	t.Run("engines that restore what runs are killed", func(t *testing.T) {
		f.undisturbed(t, probers, func() {
			n2.host.KillEngine(t)
			time.Sleep(time.Second) // of requests without an engine
			n2.host.StartEngine(t)
		})
	})
	t.Run("a rollout fails no request", func(t *testing.T) {
		before := probers[0].steady(t, patience)
		f.converge(t, f.commit(t, "web 2.0", map[string]string{"web.yaml": deployment("web", "hello:2.0", 6) + service("web", "NodePort", "nodePort: 30080", "clusterIP: "+webAddress)}))
		probers[0].faultless(t, before)
	})
	t.Run("NetworkPolicies hold between hosts", f.locked)
	t.Run("a node is cut off from the server and comes back", func(t *testing.T) {
		f.undisturbed(t, probers, func() {
			f.host.Run(t, "nft", "add table ip cut; add chain ip cut in { type filter hook input priority 0; }; add rule ip cut in ip saddr "+n3.host.IP.String()+" drop")
			time.Sleep(10 * time.Second) // shorter than what makes a node NotReady
			f.host.Run(t, "nft", "delete table ip cut")
			f.awaitNode(t, "n3", "Ready")
		})
	})
	t.Run("packets to the server are lost", func(t *testing.T) { f.lossy(t, probers) })
	t.Run("a node's rules are taken away", func(t *testing.T) { f.wiped(t, n2, probers) })
	t.Run("an engine is muddled", func(t *testing.T) { f.muddled(t, n3, probers) })
	t.Run("a node dies and returns", func(t *testing.T) { f.dies(t, n3, probers) })
	t.Run("cleanup leaves hosts as they were", func(t *testing.T) { f.leaves(t, n3) })
}

// kept fails the test if a container that ran before does not run as it did. Others may have come.
func kept(t *testing.T, before, after map[string]container) {
	t.Helper()
	for name, c := range before {
		if diff := cmp.Diff(c, after[name]); diff != "" {
			t.Errorf("%s was touched:\n%s", name, diff)
		}
	}
}

// dies takes a node's network away until its Pods run elsewhere, and gives it back.
func (f *fleet) dies(t *testing.T, dead *member, probers []prober) {
	living := slices.DeleteFunc(slices.Clone(f.nodes), func(m *member) bool { return m == dead })
	before := f.everywhere(t, living...)
	if len(dead.containers(t)) == 0 {
		t.Fatalf("nothing runs on %s, so its death proves nothing", dead.name)
	}
	begun := time.Now()
	dead.host.Run(t, "ip", "link", "set", "eth0", "down")
	f.awaitNode(t, dead.name, "NotReady")
	t.Logf("NotReady after %s", time.Since(begun))
	f.eventually(t, "evicted", func() error { return f.runsElsewhere(dead.name) })
	t.Logf("replaced after %s", time.Since(begun))
	for _, p := range probers {
		p.steady(t, patience) // the window is over once the dead node's endpoints are gone
	}
	f.eventually(t, "the Pods of "+dead.name+" run elsewhere", func() error { return f.runsElsewhere(dead.name) })
	t.Logf("steady after %s", time.Since(begun))
	kept(t, before, f.everywhere(t, living...))
	f.spared(t, living, probers, func() {
		dead.host.Run(t, "ip", "link", "set", "eth0", "up")
		dead.host.Run(t, "ip", "route", "add", "default", "via", f.network.Gateway().String())
		f.awaitNode(t, dead.name, "Ready")
		f.eventually(t, "what was replaced is gone from "+dead.name, func() error {
			if left := dead.containers(t); len(left) > 0 {
				return fmt.Errorf("%d containers", len(left))
			}
			return nil
		})
	})
}

// runsElsewhere is an error as long as not every Pod is Ready on another node.
func (f *fleet) runsElsewhere(node string) error {
	out, err := f.try("get", "pods", "-o", "wide")
	if err != nil {
		return err
	}
	ready := 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, " 1/1 ") && strings.Contains(line, " Running ") && !strings.Contains(line, " "+node+" ") {
			ready++
		}
	}
	if ready != shopPods {
		return errors.New(out)
	}
	return nil
}
