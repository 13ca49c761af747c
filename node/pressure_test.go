package node

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const gibi = 1 << 30

// roomy is a host with enough of everything.
func roomy(change func(*runtime.Room)) runtime.Room {
	r := runtime.Room{
		Memory: runtime.Share{Free: gibi, All: 8 * gibi}, Disk: runtime.Share{Free: 15, All: 100},
		Inodes: runtime.Share{Free: 5, All: 100}, PIDs: runtime.Share{Free: 10, All: 100},
	}
	change(&r)
	return r
}

func TestPressures(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*runtime.Room)
		want   corev1.NodeConditionType // "" for none
	}{
		"just enough":      {func(*runtime.Room) {}, ""},
		"little memory":    {func(r *runtime.Room) { r.Memory.Free = 100<<20 - 1 }, corev1.NodeMemoryPressure},
		"little disk":      {func(r *runtime.Room) { r.Disk.Free = 14 }, corev1.NodeDiskPressure},
		"few inodes":       {func(r *runtime.Room) { r.Inodes.Free = 4 }, corev1.NodeDiskPressure},
		"inodes as needed": {func(r *runtime.Room) { r.Inodes = runtime.Share{} }, ""},
		"few PIDs":         {func(r *runtime.Room) { r.PIDs.Free = 9 }, corev1.NodePIDPressure},
	} {
		t.Run(name, func(t *testing.T) {
			v := vitals{Networked: true, Info: runtime.Info{Room: roomy(tc.change)}, Strain: strain{}}
			v.Strain.note(v.Info.Room, t0)
			n := newNode(&Config{}, nil, v, t0)
			for _, p := range pressures {
				want := corev1.ConditionFalse
				if p.condition == tc.want {
					want = corev1.ConditionTrue
				}
				if got := conditionOf(n, p.condition); got != want {
					t.Errorf("%s = %s, want %s", p.condition, got, want)
				}
			}
			if got := conditionOf(n, corev1.NodeReady); got != corev1.ConditionTrue {
				t.Errorf("Ready = %s: what runs there goes on", got)
			}
		})
	}
}

// A disk that is emptied and filled again must not have Pods come and go.
func TestPressureLastsAWhile(t *testing.T) {
	s, full, empty := strain{}, roomy(func(r *runtime.Room) { r.Disk.Free = 1 }), roomy(func(*runtime.Room) {})
	s.note(full, t0)
	s.note(empty, t0.Add(time.Minute))
	for after, want := range map[time.Duration]corev1.ConditionStatus{time.Minute: "True", pressureLasts - 1: "True", pressureLasts: "False"} {
		if got := s.conditions(empty, t0.Add(after))[1].Status; got != want {
			t.Errorf("after %v: %s, want %s", after, got, want)
		}
	}
}

func TestTheAgentReportsPressureAndItsEnd(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.SetRoom(roomy(func(*runtime.Room) {}))
		c.after(2 * nodeEvery)
		under := func() corev1.ConditionStatus { return conditionOf(c.server.nodeNow(), corev1.NodeDiskPressure) }
		if got := under(); got != corev1.ConditionFalse {
			t.Errorf("DiskPressure = %s at first", got)
		}
		c.engine.SetRoom(roomy(func(r *runtime.Room) { r.Disk.Free = 1 }))
		c.after(2 * nodeEvery)
		if got := under(); got != corev1.ConditionTrue {
			t.Errorf("DiskPressure = %s on a full disk", got)
		}
		c.engine.SetRoom(roomy(func(*runtime.Room) {}))
		c.after(pressureLasts + 2*nodeEvery)
		if got := under(); got != corev1.ConditionFalse {
			t.Errorf("DiskPressure = %s long after", got)
		}
	})
}
