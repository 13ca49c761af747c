package docker

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// room is what this host, which is the engine's, has left beside its disk. What cannot be read is not measured.
func room(disk *syscall.Statfs_t) runtime.Room {
	return runtime.Room{
		Memory: available(read("/proc/meminfo")),
		Disk:   runtime.Share{Free: disk.Bavail * uint64(disk.Bsize), All: disk.Blocks * uint64(disk.Bsize)},
		Inodes: runtime.Share{Free: disk.Ffree, All: disk.Files},
		PIDs:   pids(read("/proc/loadavg"), read("/proc/sys/kernel/pid_max"), read("/proc/sys/kernel/threads-max")),
	}
}

func read(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(raw)
}

// available reads /proc/meminfo. MemAvailable is what programs could have without swapping.
func available(meminfo string) runtime.Share {
	const kibi = 1 << 10
	values := map[string]uint64{}
	for line := range strings.Lines(meminfo) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			values[name] = number(fields[0])
		}
	}
	if _, known := values["MemAvailable"]; !known {
		return runtime.Share{}
	}
	return runtime.Share{Free: values["MemAvailable"] * kibi, All: values["MemTotal"] * kibi}
}

// pids reads how many threads there are, the fourth field of /proc/loadavg, "running/all", and how many there may be.
func pids(loadavg, pidMax, threadsMax string) runtime.Share {
	fields := strings.Fields(loadavg)
	most := min(number(pidMax), number(threadsMax))
	if len(fields) < 4 || most == 0 {
		return runtime.Share{}
	}
	_, all, _ := strings.Cut(fields[3], "/")
	return runtime.Share{Free: most - min(most, number(all)), All: most}
}

// number is 0 for what is none.
func number(text string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
