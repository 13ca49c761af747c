package testhost

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// container is as much of Docker's container as these tests look at.
type container struct {
	ID    string `json:"Id"`
	State struct {
		Pid     int
		Running bool
	}
}

func start(t *testing.T, h *Host, image string) container {
	t.Helper()
	var c container
	h.API(t, "POST", "/containers/create", map[string]any{"Image": image, "Cmd": []string{"sleep", "600"}}, &c)
	h.API(t, "POST", "/containers/"+c.ID+"/start", nil, nil)
	h.API(t, "GET", "/containers/"+c.ID+"/json", nil, &c)
	return c
}

func TestHostsReachEachOtherAndTheTest(t *testing.T) {
	network := NewNetwork(t)
	a, b := network.BareHost(t), network.BareHost(t)
	a.Run(t, "busybox", "ping", "-c1", "-W2", b.IP.String())
	a.Run(t, "busybox", "ping", "-c1", "-W2", network.Gateway().String())
}

func TestContainersOutliveTheirEngine(t *testing.T) {
	h := New(t)
	h.BusyboxImage(t, "busybox:1")
	want := start(t, h, "busybox:1")
	h.StopEngine(t)
	h.StartEngine(t)
	h.KillEngine(t)
	h.StartEngine(t)
	h.FreezeEngine(t)
	h.ThawEngine(t)
	var got container
	h.API(t, "GET", "/containers/"+want.ID+"/json", nil, &got)
	if got != want {
		t.Errorf("container %+v became %+v", want, got)
	}
}

func TestWipedEngineKnowsNothing(t *testing.T) {
	h := New(t)
	h.BusyboxImage(t, "busybox:1")
	start(t, h, "busybox:1")
	h.KillEngine(t)
	h.StartEngine(t, "--live-restore=false")
	h.StopEngine(t)
	h.WipeEngine(t)
	h.StartEngine(t)
	for _, list := range []string{"/containers/json?all=1", "/images/json?all=1"} {
		var left []any
		if h.API(t, "GET", list, nil, &left); len(left) > 0 {
			t.Errorf("%s: %v", list, left)
		}
	}
}

// TestMachineIsLeftAsItWas kills a test process in the middle and looks at what the next one leaves.
func TestMachineIsLeftAsItWas(t *testing.T) {
	if os.Getenv("TESTHOST_VICTIM") != "" {
		h := New(t)
		h.BusyboxImage(t, "busybox:1")
		fmt.Printf("site=%s pid=%d\n", h.Dir, start(t, h, "busybox:1").State.Pid)
		select {}
	}
	victim := exec.Command("/proc/self/exe", "-test.run=^TestMachineIsLeftAsItWas$")
	victim.Env = append(os.Environ(), "TESTHOST_VICTIM=1")
	out, err := victim.StdoutPipe()
	must(t, err)
	must(t, victim.Start())
	var dir string
	var pid int
	if _, err := fmt.Fscanf(out, "site=%s pid=%d\n", &dir, &pid); err != nil {
		t.Fatalf("the victim did not start: %v", err)
	}
	must(t, victim.Process.Kill())
	victim.Wait()

	sweep(t)

	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there", dir)
	}
	if _, state := parentOf(pid); state != "Z" {
		t.Errorf("its container, process %d, still runs", pid)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Errorf("something is still mounted below %s", dir)
	}
}

func TestSweepSparesTheLiving(t *testing.T) {
	h := NewNetwork(t).BareHost(t)
	sweep(t)
	if _, err := os.Stat(h.Dir); err != nil {
		t.Error(err)
	}
}
