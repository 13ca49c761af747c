package docker

import (
	"syscall"
	"testing"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func TestMemoryIsReadFromTheKernel(t *testing.T) {
	for text, want := range map[string]runtime.Share{
		"MemTotal:        8000 kB\nMemFree:  10 kB\nMemAvailable:    2000 kB\nHugePages_Total:       0\n": {Free: 2000 << 10, All: 8000 << 10},
		"MemTotal:        8000 kB\n": {},
		"":                           {},
	} {
		if got := available(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestPIDsAreReadFromTheKernel(t *testing.T) {
	for name, tc := range map[string]struct {
		loadavg, pidMax, threadsMax string
		want                        runtime.Share
	}{
		"pids are fewer":    {"0.1 0.2 0.3 2/300 77\n", "1000\n", "5000\n", runtime.Share{Free: 700, All: 1000}},
		"threads are fewer": {"0.1 0.2 0.3 2/300 77\n", "5000\n", "1000\n", runtime.Share{Free: 700, All: 1000}},
		"more than may be":  {"0.1 0.2 0.3 2/300 77\n", "100\n", "100\n", runtime.Share{Free: 0, All: 100}},
		"not readable":      {"", "1000\n", "1000\n", runtime.Share{}},
		"no bound readable": {"0.1 0.2 0.3 2/300 77\n", "", "1000\n", runtime.Share{}},
	} {
		if got := pids(tc.loadavg, tc.pidMax, tc.threadsMax); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestThisHostIsMeasured(t *testing.T) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(t.TempDir(), &disk); err != nil {
		t.Fatal(err)
	}
	got := room(&disk)
	for name, share := range map[string]runtime.Share{"memory": got.Memory, "disk": got.Disk, "PIDs": got.PIDs} {
		if share.All == 0 || share.Free > share.All {
			t.Errorf("%s: %+v", name, share)
		}
	}
}
