package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

var errAway = errors.New("connection refused")

func away(string) error { return errAway }

// P5: what a human does to containers is repaired within a second, by events alone.
func TestRepair(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(c *cluster, id string)
		want   string
	}{
		"killed":          {func(c *cluster, id string) { c.engine.Kill(id, 137) }, "Running app#1:Ready"},
		"removed":         {func(c *cluster, id string) { c.engine.Remove(id) }, "Running app#1:Ready"},
		"paused":          {func(c *cluster, id string) { c.engine.Pause(id) }, "Running app#0:Ready"},
		"sandbox killed":  {func(c *cluster, _ string) { c.engine.KillSandbox("uid-web") }, "Running app#1:Ready"},
		"sandbox removed": {func(c *cluster, _ string) { c.engine.RemoveSandbox("uid-web") }, "Running app#1:Ready"},
		"all removed": {func(c *cluster, id string) {
			c.engine.Remove(id)
			c.engine.RemoveSandbox("uid-web")
		}, "Running app#1:Ready"},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.server.bind(aPod("web"))
				c.settle()
				tc.damage(c, c.id("uid-web", "app"))
				c.after(time.Second)
				c.wants("uid-web", tc.want)
				pods, err := c.engine.Pods(context.Background())
				if err != nil || len(pods) != 1 || !pods[0].Sandbox.Running {
					t.Fatalf("pods = %+v, %v, want one with a running sandbox", pods, err)
				}
				if n := alive(pods[0].Containers); n != 1 {
					t.Errorf("%d containers run, want 1", n)
				}
			})
		})
	}
}

// P5: what was taken away did not crash, however often that happens: it is replaced within a second each time.
func TestWhatIsTakenAwayIsNoCrash(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		for i, damage := range []func(){
			func() { c.engine.Kill(c.id("uid-web", "app"), 137) }, // nobody can tell this from a crash, so the next one waits
			func() { c.engine.Remove(c.id("uid-web", "app")) },
			func() { c.engine.RemoveSandbox("uid-web") },
			func() { c.engine.Remove(c.id("uid-web", "app")) },
			func() { c.engine.KillSandbox("uid-web") },
		} {
			damage()
			c.after(time.Second)
			c.wants("uid-web", fmt.Sprintf("Running app#%d:Ready", i+1))
		}
		c.engine.Kill(c.id("uid-web", "app"), 137)
		c.after(time.Second)
		c.wants("uid-web", "Running app#5:CrashLoopBackOff")
		c.after(firstBackoff)
		c.wants("uid-web", "Running app#6:Ready")
	})
}

func alive(all []runtime.Container) (n int) {
	for _, c := range all {
		if c.State == runtime.Running {
			n++
		}
	}
	return n
}

// P5: events are hints; without any, a regular look repairs.
func TestLostEventsAreMadeUpFor(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.engine.Reboot()
		c.after(11 * time.Second)
		c.wants("uid-web", "Running app#1:Ready")
	})
}

func TestBrokenEventsAreFollowedByALook(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.engine.Reboot()
		c.engine.BreakEvents(errors.New("unexpected EOF"))
		c.after(time.Second)
		c.wants("uid-web", "Running app#1:Ready")
	})
}

// P4: an agent that is restarted at any moment of a Pod's life restarts nothing that runs, and each attempt is made once.
func TestAgentRestartedAtEachStep(t *testing.T) {
	pod := func() *corev1.Pod {
		return aPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: image1, Command: []string{"sleep", "1"}}}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: image1})
		})
	}
	for step := 1; step <= 20; step++ {
		t.Run(fmt.Sprintf("before call %d", step), func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				var n atomic.Int32
				cut := make(chan struct{})
				c.engine.Intercept(func(ctx context.Context, call runtimetest.Call) error {
					if call.Method == "Pods" || call.Method == "Info" || call.Method == "Events" || call.Method == "Configure" {
						return nil
					}
					if n.Add(1) == int32(step) {
						close(cut)
						<-ctx.Done() // the agent dies before the engine has heard it
						return context.Cause(ctx)
					}
					return nil
				})
				c.server.bind(pod())
				select {
				case <-cut:
				case <-time.After(5 * time.Second): // the Pod takes fewer steps
				}
				c.stop()
				c.engine.Intercept(nil)
				before, err := c.engine.Pods(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				c.start()
				c.after(5 * time.Second)
				if got := c.server.show("uid-web"); got != "Running setup#0:Completed(0) app#0:Ready other#0:Ready" {
					t.Errorf("status = %q", got)
				}
				c.onceEach()
				for _, p := range before {
					for _, cont := range p.Containers {
						if c.id("uid-web", cont.Name) != cont.ID {
							t.Errorf("container %s was replaced", cont.Name)
						}
					}
				}
			})
		})
	}
}

// onceEach checks that no attempt of any container exists twice.
func (c *cluster) onceEach() {
	c.t.Helper()
	pods, err := c.engine.Pods(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range pods {
		var seen []string
		for _, cont := range p.Containers {
			name := fmt.Sprintf("%s/%s/%d", p.Pod.Name, cont.Name, cont.Attempt)
			if slices.Contains(seen, name) {
				c.t.Errorf("attempt %s exists twice", name)
			}
			seen = append(seen, name)
		}
	}
}

// P4: restart counts, start times and conditions outlive the agent.
func TestAgentRestartKeepsTheStatus(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", ready))
		c.settle()
		c.engine.Kill(c.id("uid-web", "app"), 1)
		c.after(time.Minute)
		before := c.server.status("uid-web")
		c.restart()
		c.after(20 * time.Second)
		after := c.server.status("uid-web")
		if describe(&before) != "Running app#1:Ready" || describe(&after) != describe(&before) {
			t.Errorf("status was %q and is %q", describe(&before), describe(&after))
		}
		if !before.StartTime.Equal(after.StartTime) {
			t.Errorf("startTime was %s and is %s", before.StartTime, after.StartTime)
		}
		for i := range before.Conditions {
			if !before.Conditions[i].LastTransitionTime.Equal(&after.Conditions[i].LastTransitionTime) {
				t.Errorf("condition %s moved", before.Conditions[i].Type)
			}
		}
		if c.starts("app") != 2 {
			t.Errorf("%d starts, want 2", c.starts("app"))
		}
	})
}

func TestReadinessDoesNotFlapWhenTheAgentRestarts(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", func(p *corev1.Pod) {
			ready(p)
			p.Spec.Containers[0].ReadinessProbe.PeriodSeconds = 60
		}))
		c.settle()
		c.engine.Intercept(func(ctx context.Context, call runtimetest.Call) error {
			if call.Method == "Exec" { // the probe takes its time
				<-time.After(3 * time.Second)
			}
			return nil
		})
		c.restart()
		c.after(5 * time.Second)
		for _, h := range c.server.history["web"][len(c.server.history["web"])-1:] {
			if h != "Running app#0:Ready" {
				t.Errorf("history = %v", c.server.history["web"])
			}
		}
		if n := len(c.server.history["web"]); n > 3 {
			t.Errorf("history = %v, want nothing new after the restart", c.server.history["web"])
		}
	})
}

func TestEngineErrorsAreRetried(t *testing.T) {
	for _, method := range []string{"EnsureSandbox", "StartContainer", "EnsureImage", "Pods", "StopContainer", "RemovePod"} {
		t.Run(method, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				var failing atomic.Bool
				failing.Store(true)
				c.engine.Intercept(func(_ context.Context, call runtimetest.Call) error {
					if failing.Load() && call.Method == method {
						return errors.New("the engine is out of sorts")
					}
					return nil
				})
				c.server.bind(aPod("web"))
				c.after(10 * time.Second)
				if method == "StopContainer" || method == "RemovePod" {
					c.server.delete("uid-web", 1)
					c.after(10 * time.Second)
				}
				failing.Store(false)
				c.after(30 * time.Second)
				if method == "StopContainer" || method == "RemovePod" {
					if c.server.has("uid-web") {
						t.Error("the Pod is still there")
					}
					return
				}
				c.wants("uid-web", "Running app#0:Ready")
				c.onceEach()
			})
		})
	}
}
