package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

func TestHooks(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var ran []string
		c.engine.OnExec(func(_ runtime.Container, command []string) (int, []byte, error) {
			ran = append(ran, command[0])
			return 0, nil, nil
		})
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
				PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"begin"}}},
				PreStop:   &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"end"}}},
			}
		}))
		c.settle()
		c.server.delete("uid-web", 10)
		c.after(5 * time.Second)
		if diff := cmp.Diff([]string{"begin", "end"}, ran); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
	})
}

func TestFailedPostStartReplacesTheContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.answering(map[string]int{"begin": 1})
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"begin"}}}}
		}))
		c.after(5 * time.Second)
		c.wants("uid-web", "Running app#1:CrashLoopBackOff")
	})
}

func TestGraceIsSharedByPreStopAndTheSignal(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour { return runtimetest.Behaviour{IgnoresTerm: true} })
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 6}}}
		}))
		c.settle()
		c.server.delete("uid-web", 10)
		c.after(9 * time.Second)
		if c.id("uid-web", "app") == "" {
			t.Error("killed before its grace period ended")
		}
		c.after(2 * time.Second)
		if c.server.has("uid-web") {
			t.Error("still there after its grace period")
		}
	})
}
