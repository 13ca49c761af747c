package docker

import (
	"errors"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/mainstay-cluster/mainstay/node/podnet"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// What is started in a sandbox without a network would never get one, so such a sandbox does not count as running.
func TestSandboxWithoutANetworkIsNoneYet(t *testing.T) {
	f := newFixture(t)
	ip(t, "link", "add", "held", "type", "veth", "peer", "name", "holder")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "held").Run() }) // it is gone unless the test failed
	ip(t, "addr", "add", "10.244.4.9/24", "dev", "held")
	if err := f.Configure(t.Context(), runtime.Network{PodCIDR: netip.MustParsePrefix("10.244.4.0/24")}); !errors.As(err, new(*podnet.OverlapError)) {
		t.Fatalf("the range of another interface: %v, want an overlap", err)
	}
	p := pod("early", "sleep", "600")
	if _, err := f.EnsureSandbox(t.Context(), p); !errors.As(err, new(*podnet.OverlapError)) {
		t.Fatalf("a sandbox in that range: %v, want an overlap", err)
	}
	early := f.look(t, f.Runtime, p).Sandbox
	if early.ID == "" || early.Running {
		t.Errorf("sandbox = %+v, want one that does not run", early)
	}
	ip(t, "link", "del", "held")
	s, err := f.EnsureSandbox(t.Context(), p)
	check(t, err)
	if got := f.look(t, f.Runtime, p).Sandbox; got != s || s.ID != early.ID {
		t.Errorf("sandbox = %+v, listed as %+v, want that of before with a network", s, got)
	}
}

// When the node's range is another one, a Pod with an address of the former has none: it gets another sandbox.
func TestASandboxOfAFormerRangeIsReplaced(t *testing.T) {
	f := newFixture(t)
	p := pod("moves", "sleep", "600")
	was := f.run(t, p)
	before := f.look(t, f.Runtime, p).Sandbox
	check(t, f.Configure(t.Context(), runtime.Network{PodCIDR: netip.MustParsePrefix("10.244.5.0/24")}))
	if s := f.look(t, f.Runtime, p).Sandbox; s.Running || s.IP.IsValid() {
		t.Errorf("a sandbox of the former range: %+v, want one that does not run", s)
	}
	after, err := f.EnsureSandbox(t.Context(), p)
	check(t, err)
	if after.ID == before.ID || !netip.MustParsePrefix("10.244.5.0/24").Contains(after.IP) {
		t.Errorf("sandbox %+v after %+v, want another with an address of the range", after, before)
	}
	found := f.look(t, f.Runtime, p)
	if found.Sandbox != after || found.Containers[0].ID != was.ID || found.Containers[0].State != runtime.Exited {
		t.Errorf("%+v, want the container ended and the new sandbox", found)
	}
	if again, err := f.EnsureSandbox(t.Context(), p); err != nil || again != after {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}
