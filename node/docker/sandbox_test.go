package docker

import (
	"os"
	"strings"
	"testing"
)

func TestPausedSandboxIsResumed(t *testing.T) {
	f := newFixture(t)
	p := pod("frozen", "sleep", "600")
	f.run(t, p)
	want := f.look(t, f.Runtime, p)
	f.host.API(t, "POST", "/containers/"+want.Sandbox.ID+"/pause", nil, nil)
	if f.look(t, f.Runtime, p).Sandbox.Running {
		t.Fatal("a look calls a paused sandbox running")
	}
	if s, err := f.EnsureSandbox(t.Context(), p); err != nil || s != want.Sandbox {
		t.Errorf("sandbox %+v (%v), want %+v", s, err, want.Sandbox)
	}
	if got := f.look(t, f.Runtime, p); got.Sandbox != want.Sandbox || got.Containers[0].ID != want.Containers[0].ID {
		t.Errorf("then a look shows %+v, want %+v", got, want)
	}
}

func TestOnlyTheSandboxsNetworkIsPlugged(t *testing.T) {
	group, err := os.ReadFile("/proc/self/cgroup")
	check(t, err)
	for name, tc := range map[string]struct{ id, want string }{
		"another process":           {"4f5e6d7c8b9a", "not that of container 4f5e6d7c8b9a any more"},
		"one in the host's network": {strings.TrimSpace(string(group)), "the host's own"},
	} {
		ns, err := openNetNS(tc.id, os.Getpid())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, tc.want)
			ns.Close()
		}
	}
}
