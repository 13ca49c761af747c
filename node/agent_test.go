package node

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

func TestPodRuns(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.wants("uid-web", "Running app#0:Ready")
		st := c.server.status("uid-web")
		if st.PodIP == "" || st.HostIP == "" || st.StartTime == nil || st.ContainerStatuses[0].ContainerID == "" {
			t.Errorf("status lacks addresses, start time or id: %+v", st)
		}
	})
}

func TestPodIsRemoved(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.server.delete("uid-web", 30)
		c.after(4 * time.Second)
		if c.server.has("uid-web") {
			t.Error("the server still has the Pod")
		}
		if c.id("uid-web", "app") != "" {
			t.Error("the engine still has the Pod")
		}
	})
}

func TestCrashingContainerBacksOff(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", running("sleep 1; exit 3")))
		c.after(4 * time.Second)
		c.wants("uid-web", "Running app#1:CrashLoopBackOff")
		c.after(10 * time.Second)
		c.wants("uid-web", "Running app#2:CrashLoopBackOff")
	})
}

func ready(p *corev1.Pod) {
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ready"}}}, PeriodSeconds: 5, FailureThreshold: 2, SuccessThreshold: 1,
	}
}

// answering makes every exec end with what codes says for its first word; 0 where it says nothing.
func (c *cluster) answering(codes map[string]int) {
	c.engine.OnExec(func(_ runtime.Container, command []string) (int, []byte, error) {
		return codes[command[0]], []byte(command[0] + " said so"), nil
	})
}

func TestReadinessFollowsItsProbe(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.answering(map[string]int{"ready": 1})
		c.server.bind(aPod("web", ready))
		c.settle()
		c.wants("uid-web", "Running app#0:Running")
		c.answering(nil)
		c.after(5 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
		c.answering(map[string]int{"ready": 1})
		c.after(5 * time.Second)
		c.wants("uid-web", "Running app#0:Ready") // one failure is none
		c.after(5 * time.Second)
		c.wants("uid-web", "Running app#0:Running")
	})
}

func TestLivenessRestarts(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.answering(map[string]int{"alive": 1})
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{
				ProbeHandler:        corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"alive"}}},
				InitialDelaySeconds: 5, PeriodSeconds: 5, FailureThreshold: 3,
			}
		}))
		c.after(14 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
		c.answering(nil)
		c.after(3 * time.Second)
		c.wants("uid-web", "Running app#0:Ready") // the third one succeeded
		c.answering(map[string]int{"alive": 1})
		c.after(15 * time.Second)
		c.wants("uid-web", "Running app#1:Ready")
		if reasons := c.server.eventReasons("web"); !slices.Contains(reasons, "Unhealthy") || !slices.Contains(reasons, "Killing") {
			t.Errorf("events = %v, want Unhealthy and Killing among them", reasons)
		}
	})
}

func TestAPodThatIsBeingStoppedIsNotProbedForItsLife(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", ready, func(p *corev1.Pod) {
			app := &p.Spec.Containers[0]
			app.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"alive"}}}, PeriodSeconds: 1, FailureThreshold: 30}
			app.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 20}}}
		}))
		c.settle()
		c.wants("uid-web", "Running app#0:Ready")
		c.server.delete("uid-web", 30)
		c.settle()
		c.answering(map[string]int{"alive": 1})
		c.after(3 * time.Second)
		if reasons := c.server.eventReasons("web"); slices.Contains(reasons, "Unhealthy") {
			t.Errorf("events = %v, want none of a liveness probe", reasons)
		}
		c.answering(map[string]int{"ready": 1})
		c.after(12 * time.Second)
		c.wants("uid-web", "Running app#0:Running") // whether it is ready is still asked
	})
}

func TestStartupProbeHoldsTheOthersBack(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.answering(map[string]int{"up": 1, "alive": 1})
		c.server.bind(aPod("web", ready, func(p *corev1.Pod) {
			p.Spec.Containers[0].StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"up"}}}, PeriodSeconds: 1, FailureThreshold: 30}
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"alive"}}}, PeriodSeconds: 1, FailureThreshold: 1}
		}))
		c.after(20 * time.Second)
		c.wants("uid-web", "Running app#0:Running")
		c.answering(nil)
		c.after(2 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
	})
}

func TestRestartPolicies(t *testing.T) {
	for name, tc := range map[string]struct {
		policy corev1.RestartPolicy
		script string
		want   string
	}{
		"never, success":      {corev1.RestartPolicyNever, "sleep 1; exit 0", "Succeeded app#0:Completed(0)"},
		"never, failure":      {corev1.RestartPolicyNever, "sleep 1; exit 2", "Failed app#0:Error(2)"},
		"on failure, success": {corev1.RestartPolicyOnFailure, "sleep 1; exit 0", "Succeeded app#0:Completed(0)"},
		"on failure, failure": {corev1.RestartPolicyOnFailure, "sleep 1; exit 2", "Running app#1:CrashLoopBackOff"},
		"always, success":     {corev1.RestartPolicyAlways, "sleep 1; exit 0", "Running app#1:CrashLoopBackOff"},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.server.bind(aPod("p", policy(tc.policy), running(tc.script)))
				c.after(5 * time.Second)
				c.wants("uid-p", tc.want)
			})
		})
	}
}

func TestContainerThatTheEngineCannotStart(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour {
			return runtimetest.Behaviour{StartErr: errors.New(`exec: "serve": executable file not found in $PATH`)}
		})
		c.server.bind(aPod("web"))
		c.after(5 * time.Second)
		c.wants("uid-web", "Running app#1:RunContainerError")
		st := c.server.status("uid-web")
		if last := st.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.Reason != "StartError" {
			t.Errorf("last state = %+v, want StartError", last)
		}
		c.engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour { return runtimetest.Behaviour{} })
		c.after(10 * time.Second)
		c.wants("uid-web", "Running app#2:Ready")
	})
}

func TestOOMKilledIsReported(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour {
			return runtimetest.Behaviour{Exits: true, RunFor: time.Second, ExitCode: 137, OOMKilled: true}
		})
		c.server.bind(aPod("web", policy(corev1.RestartPolicyNever)))
		c.after(3 * time.Second)
		c.wants("uid-web", "Failed app#0:OOMKilled(137)")
	})
}

func TestBackoffDoublesAndIsForgiven(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var run atomic.Int64 // how long the next attempt runs
		c.engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour {
			return runtimetest.Behaviour{Exits: true, RunFor: time.Duration(run.Load()), ExitCode: 1}
		})
		c.server.bind(aPod("web"))
		c.after(5 * time.Second) // the first, and at once the second
		for i, wait := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
			if i == 6 {
				run.Store(int64(11 * time.Minute))
			}
			before := c.starts("app")
			c.after(wait*time.Second - 6*time.Second)
			if c.starts("app") != before {
				t.Fatalf("restart %d came before %ds had passed", i+2, wait)
			}
			c.after(6 * time.Second)
			if c.starts("app") != before+1 {
				t.Fatalf("restart %d did not come after %ds", i+2, wait)
			}
		}
		run.Store(int64(time.Second))
		before := c.starts("app")
		c.after(11*time.Minute - 2*time.Second) // it began 5s ago
		if got := c.starts("app") - before; got != 1 {
			t.Errorf("%d restarts after a long run, want one at once", got)
		}
		c.after(6 * time.Second)
		if got := c.starts("app") - before; got != 1 {
			t.Errorf("%d restarts, want the next one to wait 10s again", got)
		}
		c.after(6 * time.Second)
		if got := c.starts("app") - before; got != 2 {
			t.Errorf("%d restarts, want the next one after 10s", got)
		}
	})
}

func TestSpecChangeReplacesTheContainerAlone(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: image1})
		})
		c.server.bind(pod)
		c.settle()
		other := c.id("uid-web", "other")
		pod = pod.DeepCopy()
		pod.Spec.Containers[0].Image = image2
		c.server.bind(pod)
		c.settle()
		c.wants("uid-web", "Running app#1:Ready other#0:Ready")
		if c.id("uid-web", "other") != other {
			t.Error("the other container was replaced too")
		}
		if got := c.server.status("uid-web").ContainerStatuses[0].Image; got != image2 {
			t.Errorf("image = %s, want %s", got, image2)
		}
	})
}

func TestLabelChangeTouchesNoContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		pod := aPod("web")
		c.server.bind(pod)
		c.settle()
		id := c.id("uid-web", "app")
		pod = pod.DeepCopy()
		pod.Labels = map[string]string{"a": "b"}
		c.server.bind(pod)
		c.settle()
		if c.id("uid-web", "app") != id || c.starts("app") != 1 {
			t.Error("the container was replaced")
		}
	})
}

func TestDeletionEndsAPull(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.Intercept(func(ctx context.Context, call runtimetest.Call) error {
			if call.Method == "EnsureImage" {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return nil
		})
		c.server.bind(aPod("web"))
		c.settle()
		c.server.delete("uid-web", 30)
		c.settle()
		if c.server.has("uid-web") {
			t.Error("the Pod waits for a pull that nobody needs")
		}
	})
}

func TestDeadlineFailsThePod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("job", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(20)) }))
		c.after(15 * time.Second)
		c.wants("uid-job", "Running app#0:Ready")
		c.after(6 * time.Second)
		c.wants("uid-job", "Failed app#0:Completed(0)")
		if got := c.server.status("uid-job").Reason; got != "DeadlineExceeded" {
			t.Errorf("reason = %q, want DeadlineExceeded", got)
		}
	})
}
