package node

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// The kubelet's defaults, but for that of processes, for which it has none.
const (
	minMemory  = 100 << 20 // bytes
	minDisk    = 15        // percent of the disk that holds images
	minInodes  = 5         // percent
	minPIDs    = 10        // percent
	everything = 100       // percent
	// pressureLasts is how long a node stays under pressure after it was last seen: what frees room is often taken again at once.
	pressureLasts = 5 * time.Minute
)

// pressure is one of the conditions that keep new Pods from a node that runs out of something.
type pressure struct {
	condition corev1.NodeConditionType
	low, fine string // reasons
	what      string // is wrong, if it is
	measured  func(runtime.Room) bool
	under     func(runtime.Room) bool
}

var pressures = []pressure{
	{
		corev1.NodeMemoryPressure, "MemoryLow", "MemorySuffices", "less than 100 MiB of memory are available",
		func(r runtime.Room) bool { return r.Memory.All > 0 },
		func(r runtime.Room) bool { return r.Memory.Free < minMemory },
	}, {
		corev1.NodeDiskPressure, "DiskLow", "DiskSuffices",
		fmt.Sprintf("less than %d %% of the engine's disk or %d %% of its inodes are free: remove images (docker image prune) or files, or enlarge it", minDisk, minInodes),
		func(r runtime.Room) bool { return r.Disk.All > 0 },
		func(r runtime.Room) bool { return below(r.Disk, minDisk) || below(r.Inodes, minInodes) },
	}, {
		corev1.NodePIDPressure, "PIDsLow", "PIDsSuffice", fmt.Sprintf("less than %d %% of the process numbers are free", minPIDs),
		func(r runtime.Room) bool { return r.PIDs.All > 0 },
		func(r runtime.Room) bool { return below(r.PIDs, minPIDs) },
	},
}

func below(s runtime.Share, percent uint64) bool { return s.Free*everything < s.All*percent }

// strain is when each pressure was last seen.
type strain map[corev1.NodeConditionType]time.Time

// note takes in what a look showed.
func (s strain) note(room runtime.Room, now time.Time) {
	for _, p := range pressures {
		if p.measured(room) && p.under(room) {
			s[p.condition] = now
		}
	}
}

// conditions say which pressures there are, without times. Their texts hold nothing that changes with each look.
func (s strain) conditions(room runtime.Room, now time.Time) (all []corev1.NodeCondition) {
	for _, p := range pressures {
		c := corev1.NodeCondition{Type: p.condition, Status: corev1.ConditionFalse, Reason: p.fine}
		seen, ever := s[p.condition]
		switch {
		case !p.measured(room):
			c.Reason = "NotMeasured"
		case ever && now.Sub(seen) < pressureLasts:
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, p.low, p.what
		}
		all = append(all, c)
	}
	return all
}
