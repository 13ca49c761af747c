package runtimetest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func TestFakeIsARuntime(t *testing.T) {
	f := NewFake("busybox")
	Run(t, Subject{
		Runtime: f, Image: "busybox", Timeout: 10 * time.Second, PodCIDR: netip.MustParsePrefix("10.88.0.0/24"),
		Reopen: func() runtime.Runtime { return f },
		Kill:   func(id string) { f.Kill(id, exitKilled) },
		Pause:  f.Pause,
		Remove: f.Remove,
		EndPod: func(id string) {
			pods, _ := f.Pods(t.Context())
			for _, p := range pods {
				if p.Sandbox.ID == id {
					f.KillSandbox(p.Pod.UID)
				}
			}
		},
	})
}
