package node

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// P5: without servers, what crashes is restarted, by an agent that has never heard one too.
func TestWithoutServersContainersRestart(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.server.answerWith(away)
		c.engine.Kill(c.id("uid-web", "app"), 1)
		c.after(time.Second)
		if c.starts("app") != 2 {
			t.Error("the container was not restarted while the server was away")
		}
		c.restart()
		c.after(time.Minute)
		if c.starts("app") != 2 {
			t.Error("the agent's restart restarted the container")
		}
		c.engine.Reboot()
		c.after(15 * time.Second)
		pods, _ := c.engine.Pods(context.Background())
		if alive(pods[0].Containers) != 1 || !pods[0].Sandbox.Running {
			t.Errorf("after a reboot without servers: %+v", pods[0])
		}
		c.server.answerWith(nil)
		c.after(15 * time.Second)
		c.wants("uid-web", "Running app#2:Ready")
	})
}

// P5: a server that is away at any step delays reports, nothing else.
func TestServerAwayAtEachStep(t *testing.T) {
	for _, path := range []string{link.PathRegister, link.PathPods, link.PathReport, link.PathEvents} {
		t.Run(path, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.server.answerWith(func(p string) error {
					if p == path {
						return errAway
					}
					return nil
				})
				c.restart()
				c.server.bind(aPod("web"))
				c.after(20 * time.Second)
				c.server.answerWith(nil)
				c.after(15 * time.Second)
				c.wants("uid-web", "Running app#0:Ready")
				c.server.delete("uid-web", 1)
				c.settle()
				if c.server.has("uid-web") {
					t.Error("the Pod was not removed")
				}
			})
		})
	}
}

func TestRemovalIsReportedUntilItIsAcknowledged(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.server.answerWith(func(p string) error {
			if p == link.PathReport {
				return errAway
			}
			return nil
		})
		c.server.delete("uid-web", 1)
		c.after(time.Minute)
		removals := 0
		for _, call := range c.engine.Calls() {
			if call.Method == "RemovePod" {
				removals++
			}
		}
		if removals != 1 {
			t.Errorf("removed %d times, want once", removals)
		}
		c.server.answerWith(nil)
		c.after(15 * time.Second)
		if c.server.has("uid-web") {
			t.Error("the removal was never acknowledged")
		}
	})
}

// P5: only a positive instruction stops a Pod; being unknown to a server that lost everything is none: it adopts.
func TestServerWithAnEmptyStoreAdopts(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", ready), aPod("db"))
		c.settle()
		web, db := c.id("uid-web", "app"), c.id("uid-db", "app")
		lost := apierrors.NewNotFound(link.NodesResource, "n1")
		c.server.answerWith(func(path string) error {
			if path == link.PathRegister {
				return errAway
			}
			return lost
		})
		c.server.forget()
		c.after(20 * time.Second)
		c.server.answerWith(nil)
		c.after(15 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
		if c.id("uid-web", "app") != web || c.id("uid-db", "app") != db || c.starts("app") != 2 {
			t.Error("containers were touched")
		}
		if c.server.registrations != 2 {
			t.Errorf("%d registrations, want 2", c.server.registrations)
		}
	})
}

// P5: a server whose time runs backwards has lost its store; what it calls gone is not stopped.
func TestServerWhoseTimeRunsBackwardsStopsNothing(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		id := c.id("uid-web", "app")
		c.server.mu.Lock()
		c.server.careless = true
		c.server.mu.Unlock()
		c.server.forget()
		c.after(5 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
		if c.id("uid-web", "app") != id {
			t.Error("the container was stopped")
		}
	})
}

func TestAgentOfAnEmptiedServerAdoptsAtItsStartToo(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", ready))
		c.settle()
		id := c.id("uid-web", "app")
		c.stop()
		c.server.forget()
		c.start()
		c.settle()
		c.wants("uid-web", "Running app#0:Ready")
		if c.id("uid-web", "app") != id {
			t.Error("the container was replaced")
		}
	})
}

func TestGonePodsAreStopped(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"), aPod("db"))
		c.settle()
		c.server.drop("uid-web")
		c.settle()
		if c.id("uid-web", "app") != "" || c.id("uid-db", "app") == "" {
			t.Error("want the Pod that is gone stopped, and no other")
		}
	})
}

// A Pod that takes its time to stop must not make the agent ask for it again and again.
func TestGonePodThatStopsSlowlyCostsNoPolls(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.engine.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour { return runtimetest.Behaviour{IgnoresTerm: true} })
		c.server.bind(aPod("web"))
		c.settle()
		before := c.polls()
		c.server.answerWith(func(path string) error {
			if path == link.PathPods && c.polls() > before+100 {
				panic("the agent polls without end")
			}
			return nil
		})
		c.server.drop("uid-web")
		c.after(20 * time.Second)
		if got := c.polls() - before; got > 5 {
			t.Errorf("%d polls in 20s, want a few", got)
		}
		c.after(20 * time.Second)
		if c.id("uid-web", "app") != "" {
			t.Error("the Pod was not removed")
		}
	})
}

// What was deleted while the agent was down is not started first.
func TestDeletedWhileTheAgentWasDown(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web"))
		c.settle()
		c.stop()
		c.engine.Kill(c.id("uid-web", "app"), 1)
		c.server.delete("uid-web", 1)
		c.start()
		c.settle()
		if c.starts("app") != 1 || c.server.has("uid-web") {
			t.Errorf("%d starts, want 1; still there: %v", c.starts("app"), c.server.has("uid-web"))
		}
	})
}
