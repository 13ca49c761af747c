package node

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// While a node was away a rebuilt server may have given its Pod range to another. Its Pods cannot be reached by their addresses
// any more, so they start anew with others, once their images are known to be there, and an Event says so. A Pod on the host's own
// network has nothing of it.
func TestPodsOfARangeThatWasGivenAwayStartAnew(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.server.bind(aPod("host", func(p *corev1.Pod) { p.Spec.HostNetwork = true }))
		c.settle()
		c.wants("uid-web", "Running app#0:Ready")
		c.server.give("10.244.9.0/24")
		c.restart()
		c.after(time.Second)
		c.wants("uid-web", "Running app#1:Ready")
		c.wants("uid-host", "Running app#0:Ready")
		pods, err := c.engine.Pods(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods {
			if p.Pod.Name == "web" && (!p.Sandbox.Running || !netip.MustParsePrefix("10.244.9.0/24").Contains(p.Sandbox.IP) || alive(p.Containers) != 1) {
				t.Errorf("%+v with %d containers, want one and an address of the new range", p.Sandbox, alive(p.Containers))
			}
		}
		if got := c.server.eventReasons("web"); !slices.Contains(got, "SandboxChanged") {
			t.Errorf("no Event says so: %v", got)
		}
	})
}
